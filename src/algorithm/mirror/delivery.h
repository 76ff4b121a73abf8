// Delivery: one request on its way to several nodes.
//
// Whoever asked waits until every node has answered that still has to: a node that has left the
// mirror meanwhile is not waited for. A local disk may keep a request for as long as it hangs; so a
// delivery lives until its last part is over, with the request and its data, and is used again.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "algorithm/mirror/node.h"
#include "async/scope.h"
#include "async/wait.h"
#include "base/list.h"
#include "block/buffer.h"
#include "block/request.h"

namespace dst::mirror {

struct Delivery : ListHook<> {
    struct Part {
        Node* node = nullptr;
        std::uint64_t membership = 0;  // the node's, when this was sent
        bool was_attached = false;     // then
        bool is_done = false;
        Result<> result;

        /// The node has left: its answer decides nothing any more.
        [[nodiscard]] bool is_excused() const { return node->membership != membership; }
        [[nodiscard]] bool has_failed() const { return is_done && !result && !is_excused(); }
    };

    block::Request request;
    block::Buffer buffer;  // keeps `request.data`
    std::vector<Part> parts;
    std::size_t running = 0;
    bool is_owned = false;  // somebody waits for it
    io::TimePoint begun;
    /// When an attached node had answered as the first one.
    std::optional<io::TimePoint> first_answer;
    async::WaitQueue changed;

    /// Every part was answered, or is not waited for.
    [[nodiscard]] bool is_settled() const {
        if (running == 0) return true;
        for (const Part& part : parts)
            if (!part.is_done && !part.is_excused()) return false;
        return true;
    }
    [[nodiscard]] bool has_failed() const {
        for (const Part& part : parts)
            if (part.has_failed()) return true;
        return false;
    }
};

/// Belongs to one mirror. When it dies nothing may be under way.
class Deliveries {
  public:
    explicit Deliveries(io::Clock& clock) : clock_(clock) {}
    /// What counts as now when answers come: exact to a tick of the watch, while any are awaited.
    void tick() { now_ = clock_.now(); }
    [[nodiscard]] io::TimePoint now() const { return now_; }

    /// A delivery of `request`, without parts; the caller owns it until `release`.
    Delivery& take(const block::Request& request);
    /// Starts a part, up to where it first waits.
    void send(Delivery& delivery, Node& node);
    /// The caller waits no longer.
    void release(Delivery& delivery);
    /// Sends `request` to one node and waits for its answer, or until the node has left
    /// (`node_lost`), or until `deadline` (`timed_out`; it may still be answered). Data, of reads
    /// too, is to lie in `request.buffer`. Suspends.
    async::Task<Result<>> ask(Node& node, const block::Request& request,
                              io::TimePoint deadline = io::TimePoint::max());

    /// A node has left, or something else changed that who waits may look at.
    void wake_all();
    /// All that are under way, the oldest first.
    [[nodiscard]] List<Delivery>& active() { return active_; }
    /// Suspends until the last part is over.
    async::Task<void> join() { co_await parts_.join(); }

  private:
    async::Task<void> run(Delivery& delivery, std::size_t at);
    void recycle(Delivery& delivery);

    io::Clock& clock_;
    io::TimePoint now_;
    List<Delivery> active_;
    std::vector<std::unique_ptr<Delivery>> all_;
    std::vector<Delivery*> free_;
    async::Scope parts_;  // last: its tasks use all of the above
};

}  // namespace dst::mirror
