// Place: where the configuration says that a node of a mirror is: its device, its reservation, and
// what was seen there. To the mirror it is the backing of a node.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "algorithm/mirror/backing.h"
#include "algorithm/mirror/superblock_reader.h"
#include "metadata/assembly.h"
#include "node/gate.h"
#include "storage/member.h"

namespace dst::storage {

class Place final : public mirror::Backing, private node::Gate {
  public:
    /// Whom a place asks when a node is met again that promises nothing by itself.
    class Judge {
      public:
        /// What a plain server has now: may it be written to by us as before? The text says why
        /// not.
        [[nodiscard]] virtual Outcome<> judge(const metadata::Reading& found) const = 0;

      protected:
        ~Judge() = default;
    };

    /// `memory`: for superblocks. All references outlive it.
    Place(Surroundings& around, const Settings& settings, MemberSpec spec, bool is_witness,
          Member::Owner& owner, const Judge& judge, block::Account& memory);

    [[nodiscard]] Member& member() { return member_; }
    [[nodiscard]] const Member& member() const { return member_; }
    [[nodiscard]] const std::string& name() const { return member_.spec().type; }
    [[nodiscard]] bool is_witness() const { return is_witness_; }
    [[nodiscard]] bool is_local() const { return member_.remote() == nullptr; }
    /// Whole pages: how much of it counts.
    [[nodiscard]] SectorCount size() const override;
    void moved(SectorCount end) override { superblock_end_ = end; }
    /// Of its device, which is there.
    [[nodiscard]] std::uint32_t block_bytes() const {
        return member_.device()->geometry().block_bytes;
    }

    /// Looks at the superblock, at the device's end and at those of `sizes` that fit, and at the
    /// reservation. Suspends.
    async::Task<metadata::Place> look(std::vector<SectorCount> sizes);
    /// Taking over from it failed for its disk: others that have all of the data are better.
    void note_broken(bool is_broken) { is_broken_ = is_broken; }
    [[nodiscard]] bool is_broken() const { return is_broken_; }
    /// It is connected, and has not been looked at lately.
    [[nodiscard]] bool is_to_be_looked_at();
    /// It was looked at, and could not be read: it is worth while to try again some time later.
    [[nodiscard]] bool has_failed_look() const { return has_failed_look_; }
    /// There is, or may be, a superblock.
    [[nodiscard]] bool may_hold_an_age() const { return may_hold_an_age_; }
    /// The node that was found there; nothing if none was.
    [[nodiscard]] std::optional<metadata::Cookie> cookie() const { return cookie_; }
    /// It is made one.
    void become_node(metadata::Cookie cookie) {
        cookie_ = cookie;
        superblock_end_ = size();
    }
    /// It is none any more, or did not become one.
    void forget_node() { cookie_.reset(); }
    /// Somebody is about to make it a node: others leave it alone.
    void take_in_hand(bool is_in_hand) { is_in_hand_ = is_in_hand; }
    [[nodiscard]] bool is_in_hand() const { return is_in_hand_; }
    /// It is to be closed as soon as nothing uses it.
    void leave() { is_leaving_ = true; }
    [[nodiscard]] bool is_leaving() const { return is_leaving_; }
    /// What is there from now on need not be the disk that was.
    void take_another_disk() {
        if (member_.remote() != nullptr) member_.remote()->take_another_disk();
    }
    /// Makes its end blank, where superblocks are, durably. Suspends.
    async::Task<Outcome<>> erase();
    /// Why it is no node; empty: nothing is known against it. True if that is new.
    bool note_stranger(std::string why);
    [[nodiscard]] const std::string& why_stranger() const { return why_stranger_; }
    [[nodiscard]] bool can_vote() const override { return is_local() || can_reserve(); }

    /// Claims it, displacing whoever has it if `by_force`. Suspends.
    async::Task<Outcome<>> claim(bool by_force);
    /// It was, or can't be.
    [[nodiscard]] bool is_claimed() const { return !can_reserve() || is_granted_; }
    /// Gives it back, if it was claimed. Suspends.
    async::Task<void> release();
    /// Nothing was claimed, nobody has taken it; the next connection is a new beginning.
    void begin_anew() override;

    // As a node's backing.
    [[nodiscard]] block::Device& device() const override { return *member_.device(); }
    [[nodiscard]] bool is_connected() const override;
    [[nodiscard]] std::optional<io::TimePoint> silent_since() const override;
    [[nodiscard]] std::string reason() const override { return member_.reason(); }
    [[nodiscard]] std::optional<io::TimePoint> vouched_at() const override;
    [[nodiscard]] bool is_taken() const override;
    [[nodiscard]] std::uint64_t instance() const override;
    async::Task<Outcome<>> claim() override { return claim(false); }
    async::Task<bool> has_grown() override;
    void drop() override;
    [[nodiscard]] bool has_lost_changes() const override;
    void accept_losses() override;

  private:
    async::Task<Result<mirror::FoundSuperblock>> find_at(std::vector<SectorCount> ends);
    [[nodiscard]] bool can_reserve() const;
    [[nodiscard]] bool is_ours(const nbd::Reservation& reservation) const;
    async::Task<Outcome<>> admit(node::Visit& visit) override;
    async::Task<Outcome<>> admit_plain(node::Visit& visit);

    Surroundings& around_;
    const Settings& settings_;
    const bool is_witness_;
    const Judge& judge_;
    block::Account& memory_;
    std::optional<metadata::Cookie> cookie_;
    SectorCount superblock_end_;           // where the superblock was found
    std::uint64_t accepted_change_ = 0;    // of the device's instance
    std::optional<std::uint64_t> number_;  // of the reservation that we have
    bool is_granted_ = false;              // that claim was answered: nobody else's change comes
    io::TimePoint look_again_at_;
    std::optional<io::TimePoint> asked_size_at_;  // or it was blank for the first time
    std::string why_stranger_;
    bool is_in_hand_ = false;
    bool has_failed_look_ = false;
    bool is_broken_ = false;
    bool may_hold_an_age_ = true;  // unless it was looked at, and has none
    async::Semaphore looking_{1};  // one at a time
    bool is_leaving_ = false;
    bool is_used_ = false;  // a plain one, since we began to write to it
    Member member_;
};

}  // namespace dst::storage
