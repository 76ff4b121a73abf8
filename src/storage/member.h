// A storage's node with all that belongs to it: private to storage/.
#pragma once

#include "storage/storage.h"

namespace dst::storage {

class Storage::Member final : private node::Observer {
  public:
    Member(Storage& storage, MemberSpec spec, node::Cookie cookie);

    /// Opens the device, or begins to connect to it; tries again until it is there or `give_up()`.
    /// Suspends until there is a device with a size.
    async::Task<void> open();
    /// Stops trying; `open` returns soon.
    void give_up();
    /// Flushes and closes; adds what was lost in doing so to `losses`, a sentence each. Suspends.
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
    [[nodiscard]] block::Device* device() const;
    [[nodiscard]] std::string reason() const;
    [[nodiscard]] NodeStatus status() const;
    [[nodiscard]] const MemberSpec& spec() const { return spec_; }
    [[nodiscard]] node::Node* node() { return node_.get(); }
    node::Node& make_node();
    /// 0, unless it is a storage that is another instance than the one that was placed.
    [[nodiscard]] std::uint64_t instance_change() const {
        return node_ && below_ != nullptr ? below_->instance() ^ placed_instance_ : 0;
    }
    void drop_node() { node_.reset(); }

  private:
    async::Task<void> open_file(const FilePlace& place);
    async::Task<void> wait_for_storage(Storage& below);
    void node_ready() override;
    void node_lost() override;
    void node_refused() override { storage_.changes_.wake_all(); }
    [[nodiscard]] std::vector<std::string> flags() const;

    Storage& storage_;
    MemberSpec spec_;
    node::Cookie cookie_;
    std::string reason_ = "not opened yet";
    io::WallTime since_;
    bool hopeless_ = false;
    bool given_up_ = false;
    async::WaitQueue wanted_;
    std::unique_ptr<block::Device> local_;
    std::unique_ptr<node::Remote> remote_;
    Storage* below_ = nullptr;
    std::uint64_t placed_instance_ = 0;
    std::unique_ptr<node::Node> node_;
};

}  // namespace dst::storage
