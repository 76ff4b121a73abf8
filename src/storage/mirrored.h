// A storage whose nodes hold metadata: a mirror, formed from what its superblocks say.
//
// It opens the places that the configuration names, looks at what is there, and asks
// metadata/assembly.h whether a storage may be made or taken over from that; if so it claims the
// reservations, looks again, and starts the mirror. Places that come later are given to it. When
// another head has taken so many nodes that the mirror is at an end, all of it begins anew.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "storage/place.h"
#include "storage/storage.h"

namespace dst::storage {

class MirroredStorage final : public Storage,
                              private Member::Owner,
                              private mirror::Owner,
                              private Place::Judge {
  public:
    MirroredStorage(Surroundings& around, Settings settings);
    ~MirroredStorage() override;

    Outcome<> start(const Overruling& overruling) override;
    async::Task<Outcome<>> stop(io::TimePoint deadline) override;
    void hurry() override;
    void abandon() override;
    [[nodiscard]] bool is_all_connected() const override;
    [[nodiscard]] std::size_t requests_waiting() const override;
    async::Task<Outcome<>> add_node(MemberSpec spec, Adding adding,
                                    io::TimePoint deadline) override;
    async::Task<Outcome<>> remove_node(node::Cookie node, bool force,
                                       io::TimePoint deadline) override;
    Outcome<> forget_place(const std::string& type) override;
    async::Task<Outcome<>> replace_node(node::Cookie node, MemberSpec spec, Adding adding,
                                        io::TimePoint deadline) override;
    async::Task<Outcome<>> mark_dirty(node::Cookie node, bool force,
                                      io::TimePoint deadline) override;
    async::Task<Outcome<>> mark_clean(node::Cookie node, bool force) override;
    Outcome<> overrule(const Overruling& overruling) override;
    Outcome<> begin_comparison(bool repair) override;
    async::Task<Outcome<>> grow(io::TimePoint deadline) override;
    Outcome<> set_resync(ResyncSettings settings) override;
    [[nodiscard]] std::optional<ResyncSettings> resync_settings() const override;
    [[nodiscard]] bool is_started() const override { return is_started_; }
    [[nodiscard]] StorageStatus status() const override;
    [[nodiscard]] std::vector<Loss> losses() const override;
    [[nodiscard]] std::vector<NodeMeasures> node_measures() const override;
    [[nodiscard]] std::string obstacle() const override;
    [[nodiscard]] block::Geometry geometry() const override;

  private:
    async::Task<Result<>> perform(block::Request& request) override;
    [[nodiscard]] std::optional<Problem> dead_end() const override;
    void member_changed(Member& member) override;
    void member_ready(Member& member) override {
        member.accept_size();  // of use or not: where a node ends is what its record says
        member_changed(member);
    }
    void member_lost(Member& member) override { member_changed(member); }
    [[nodiscard]] bool awaits_members() const override { return !is_all_connected(); }
    void mirror_changed() override;
    void mirror_lost_changes() override { lose_changes(); }
    [[nodiscard]] bool remembers_others() const override;
    [[nodiscard]] Outcome<> judge(const metadata::Reading& found) const override;

    async::Task<void> run();
    async::Task<void> assemble();
    void say(const Overruling& overruling);
    async::Task<metadata::Situation> look();
    void note_ends_of(const metadata::Situation& situation);
    async::Task<bool> claim(const std::vector<std::size_t>& wanted, bool by_force);
    async::Task<Outcome<>> make();
    async::Task<Outcome<>> take_over(const metadata::Start& start);
    [[nodiscard]] Outcome<> check_places() const;
    [[nodiscard]] Outcome<metadata::Shape> shape_of_places() const;
    [[nodiscard]] Place* find_lost(const metadata::NodeRecord& record) const;
    [[nodiscard]] Outcome<metadata::Form> new_form() const;
    async::Task<void> serve();
    async::Task<void> find_nodes();
    [[nodiscard]] std::string why_no_node(const Place& place, const metadata::Place& seen) const;
    [[nodiscard]] const metadata::NodeRecord* lost_at(const std::string& type) const;
    [[nodiscard]] const Place* other_place_of(const Place& place) const;
    [[nodiscard]] bool is_new_node(const Place& place, const metadata::Place& seen,
                                   metadata::Cookie& cookie) const;
    async::Task<void> close_those_that_left();
    async::Task<void> commands_ended();
    async::Task<void> take_down(io::TimePoint deadline);
    async::Task<bool> refresh_sizes(const std::vector<std::size_t>& wanted);
    async::Task<void> refresh_place(Place& place, std::string& failed);
    async::Task<void> release_all();
    void make_mirror(metadata::Form form);
    void note(std::string reason, bool is_final);
    // Live changes (mirrored_changes.cc).
    class Command;
    [[nodiscard]] Outcome<> check_serving() const;
    [[nodiscard]] Outcome<const metadata::NodeRecord*> record_of(node::Cookie node) const;
    async::Task<Outcome<Place*>> open_newcomer(MemberSpec spec, Adding adding,
                                               io::TimePoint deadline);
    Outcome<> note_newcomer(Place& place, const Adding& adding);
    async::Task<Outcome<>> check_newcomer(Place& place, Adding adding,
                                          metadata::Cookie replaced = 0);
    async::Task<Outcome<>> replace_in_place(Place& place, metadata::NodeRecord record,
                                            Adding adding, io::TimePoint deadline);
    async::Task<Outcome<>> take_in(Place& place, Adding adding, io::TimePoint deadline);
    [[nodiscard]] bool is_last_clean(node::Cookie node) const;
    [[nodiscard]] std::optional<node::Cookie> heir_of(node::Cookie node) const;
    async::Task<Outcome<>> pass_over(node::Cookie node, io::TimePoint deadline);
    async::Task<Outcome<>> take_out(node::Cookie node, io::TimePoint deadline);
    async::Task<void> compare(bool repair);
    async::Task<Outcome<>> refresh_sizes(io::TimePoint deadline);
    Outcome<> note_ends(std::vector<SectorCount> ends);
    void remember_ends(std::vector<SectorCount> ends);
    [[nodiscard]] std::vector<SectorCount> ends_in_force() const;
    [[nodiscard]] Place* find(const Member& member) const;
    [[nodiscard]] Place* find(metadata::Cookie cookie) const;
    [[nodiscard]] NodeStatus status_of(const metadata::NodeRecord& record,
                                       const mirror::Mirror::NodeView& view) const;
    [[nodiscard]] NodeStatus status_of(const Place& place) const;

    bool is_started_ = false;
    Overruling overruling_;
    io::TimePoint overruling_until_;      // where it is by force
    bool begins_anew_ = false;            // as a person has said
    std::optional<metadata::Form> left_;  // by that
    std::size_t commands_ = 0;            // that use the mirror
    bool is_growing_ = false;
    std::vector<SectorCount> noted_ends_;
    async::WaitQueue command_ended_;
    std::string reason_;     // why it is not formed
    bool is_final_ = false;  // a person has to do something
    bool was_fenced_ = false;
    bool looks_again_ = false;  // another one came while nodes were claimed
    // Until the last buffer is given back, which a storage below may still hold.
    block::Share metadata_memory_;
    block::Share copies_memory_;
    std::vector<std::unique_ptr<Place>> places_;
    std::unique_ptr<mirror::Mirror> mirror_;
    async::WaitQueue events_;
    std::uint64_t events_count_ = 0;
    async::Scope scope_;  // last: its tasks use all of the above
};

}  // namespace dst::storage
