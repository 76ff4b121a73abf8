// A storage whose nodes hold data and nothing else: an algorithm that needs no more places them.
//
// It waits until all of its nodes are there, lets the algorithm place them in their order, and
// hands it each request. Nodes that come and go afterwards are the nodes' own affair, and the
// algorithm's.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "storage/member.h"
#include "storage/storage.h"

namespace dst::storage {

class PlainStorage final : public Storage, private Member::Owner {
  public:
    PlainStorage(Surroundings& around, Settings settings);
    ~PlainStorage() override;

    Outcome<> start(const Overruling& overruling) override;
    async::Task<Outcome<>> stop(io::TimePoint deadline) override;
    void hurry() override;
    void abandon() override;
    [[nodiscard]] bool is_all_connected() const override;
    [[nodiscard]] std::size_t requests_waiting() const override;
    async::Task<Outcome<>> add_node(MemberSpec spec, Adding adding,
                                    io::TimePoint deadline) override;
    [[nodiscard]] bool is_started() const override { return algorithm_ != nullptr; }
    [[nodiscard]] StorageStatus status() const override;
    [[nodiscard]] std::vector<Loss> losses() const override;
    [[nodiscard]] std::vector<NodeMeasures> node_measures() const override;
    [[nodiscard]] std::string obstacle() const override;
    [[nodiscard]] block::Geometry geometry() const override;
    /// Another one, too, when a storage that is one of its nodes has lost changes.
    [[nodiscard]] std::uint64_t instance() const override;

  private:
    /// A member, and its place once it has one.
    struct Placed;

    async::Task<Result<>> perform(block::Request& request) override;
    [[nodiscard]] std::optional<Problem> dead_end() const override;
    void member_changed(Member& member) override;
    void member_ready(Member& member) override;
    void member_lost(Member& member) override;
    void member_lost_changes(Member&) override { lose_changes(); }
    [[nodiscard]] bool awaits_members() const override { return !is_formed(); }

    async::Task<void> form();
    Outcome<> place(Placed& placed);
    [[nodiscard]] std::unique_ptr<Placed> make_member(MemberSpec spec, std::size_t place);
    [[nodiscard]] node::Cookie cookie_of(std::size_t place) const;
    [[nodiscard]] Placed* find(const Member& member) const;
    [[nodiscard]] const Member* first_missing() const;
    [[nodiscard]] std::vector<NodeStatus> stopped_nodes() const;
    async::Task<void> report_lost(node::Node& node);

    bool is_stacked_ = false;  // some of its nodes are storages
    std::string refusal_;      // why it will never form as it is
    std::vector<std::unique_ptr<Placed>> members_;
    Placed* adding_ = nullptr;  // being opened, to be one of them
    algorithm::InstanceHandle algorithm_;
    async::Scope scope_;  // last: its tasks use all of the above
};

}  // namespace dst::storage
