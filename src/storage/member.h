// Member: a node's device with all that belongs to it: opening it, trying again, closing it.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "storage/storage.h"

namespace dst::storage {

/// How a remote one is watched.
struct Watching {
    node::Gate* gate = nullptr;  // outlives the member
    std::optional<io::Duration> ping_each{};
    io::Duration silence_max = std::chrono::seconds(3);
};

class Member final : private node::Observer {
  public:
    /// Who has members. Called between coroutines; must not suspend or destroy the member.
    class Owner {
      public:
        /// Whether it is there, is connected, or why not, may have changed.
        virtual void member_changed(Member& member) = 0;
        /// Its link is there, maybe to a device of another geometry; or is lost.
        virtual void member_ready(Member& member) = 0;
        virtual void member_lost(Member& member) = 0;
        /// Its own disk has lost changes that were not flushed: whoever asked for that flush is
        /// told, all others are not.
        virtual void member_lost_changes(Member&) {}
        /// Nothing is answered until more of them are there.
        [[nodiscard]] virtual bool awaits_members() const = 0;

      protected:
        ~Owner() = default;
    };

    /// `key` tells a remote node from others of this head. `settings` say what all nodes of the
    /// storage have in common. All references outlive the member.
    Member(Surroundings& around, const Settings& settings, MemberSpec spec, std::uint64_t key,
           Owner& owner, Watching watching = {});
    ~Member();

    /// Opens the device, or begins to connect to it; tries again until it is there or `give_up()`.
    /// Suspends until there is a device with a size.
    async::Task<void> open();
    /// Asks its device how large it is now, for `size()`; fails if it does not say so by
    /// `deadline`. Suspends.
    async::Task<Outcome<>> refresh_size(io::TimePoint deadline);
    /// Takes the size that its device had when its link was made.
    void accept_size() {
        if (remote_) remote_->accept_size();
    }
    /// Stops trying; `open` returns soon.
    void give_up();
    /// Gives up opening it and waits for that to end; flushes and closes; adds what was lost in
    /// doing so to `losses`, a sentence each. Nothing refers to the member afterwards. A second
    /// call waits for the first one. Suspends.
    async::Task<void> close(io::TimePoint deadline, std::vector<std::string>& losses);
    void abandon() {
        if (remote_) remote_->abandon();
    }
    void hurry() {
        if (remote_) remote_->hurry();
    }

    /// There is a device, and it has a size.
    [[nodiscard]] bool is_there() const;
    /// Waiting longer won't help: the reason says why.
    [[nodiscard]] bool is_hopeless() const {
        return hopeless_ || (remote_ && remote_->status().hopeless);
    }
    [[nodiscard]] bool is_connected() const;
    [[nodiscard]] std::size_t requests_waiting() const;
    /// Null before there is one.
    [[nodiscard]] block::Device* device() const;
    /// Null if it is local.
    [[nodiscard]] node::Remote* remote() const { return remote_.get(); }
    /// How much of the device the storage may use.
    [[nodiscard]] SectorCount size() const;
    [[nodiscard]] std::string reason() const;
    [[nodiscard]] io::WallTime since() const;
    /// Words of the tree's `flags` that speak of the device.
    [[nodiscard]] std::vector<std::string> flags() const;
    [[nodiscard]] const MemberSpec& spec() const { return spec_; }
    [[nodiscard]] NodeMeasures measures(node::Cookie cookie) const;
    /// 0, unless the device is another instance than the one that was opened: it has lost changes.
    [[nodiscard]] std::uint64_t instance_change() const {
        return opened_instance_ == 0 ? 0 : device()->instance() ^ opened_instance_;
    }

  private:
    async::Task<void> open_file(const FilePlace& place);
    async::Task<void> wait_for_storage(Storage& below);
    void node_ready() override;
    void node_lost() override;
    void node_refused() override { owner_.member_changed(*this); }
    void node_fenced() override { owner_.member_changed(*this); }
    [[nodiscard]] bool is_awaited() const override { return owner_.awaits_members(); }

    Surroundings& around_;
    const Settings& settings_;
    MemberSpec spec_;
    const std::uint64_t key_;
    Owner& owner_;
    const Watching watching_;
    std::string reason_ = "not opened yet";
    io::WallTime since_;
    bool hopeless_ = false;
    bool given_up_ = false;
    bool is_opening_ = false;
    bool is_closing_ = false;
    bool is_closed_ = false;
    async::WaitQueue wanted_;
    std::unique_ptr<block::Device> local_;
    std::unique_ptr<node::Remote> remote_;
    Storage* below_ = nullptr;
    std::uint64_t opened_instance_ = 0;
};

}  // namespace dst::storage
