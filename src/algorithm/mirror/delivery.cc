#include "algorithm/mirror/delivery.h"

#include "base/check.h"

namespace dst::mirror {

Delivery& Deliveries::take(const block::Request& request) {
    if (free_.empty()) {
        all_.push_back(std::make_unique<Delivery>());
        free_.reserve(all_.size());
        free_.push_back(all_.back().get());
    }
    Delivery& delivery = *free_.back();
    free_.pop_back();
    delivery.request = request;
    if (request.buffer != nullptr) {
        delivery.buffer = *request.buffer;
        delivery.request.buffer = &delivery.buffer;
    }
    delivery.is_owned = true;
    if (active_.empty()) tick();
    delivery.begun = now_;
    active_.push_back(delivery);
    return delivery;
}

void Deliveries::send(Delivery& delivery, Node& node) {
    const std::size_t at = delivery.parts.size();
    delivery.parts.push_back({.node = &node,
                              .membership = node.membership,
                              .was_attached = node.is_attached(),
                              .result = {}});
    ++delivery.running;
    ++node.in_flight;
    parts_.spawn(run(delivery, at));
}

async::Task<void> Deliveries::run(Delivery& delivery, std::size_t at) {
    Node& node = *delivery.parts[at].node;
    block::Request request = delivery.request;  // devices may change theirs
    const Result<> result = co_await node.backing->device().execute(request);
    // By its place: others may have been added since.
    Delivery::Part& part = delivery.parts[at];
    part.result = result;
    // What it took before is not durable there, whatever the disk says now.
    if (result && request.op == block::Op::flush && node.has_lost_changes())
        part.result = fail(ErrorCode::io_error, "changes were lost before");
    part.is_done = true;
    --node.in_flight;
    --delivery.running;
    if (!delivery.is_owned) {
        if (delivery.running == 0) recycle(delivery);
        co_return;
    }
    if (delivery.running == 0) {
        delivery.changed.wake_all();
    } else if (!delivery.first_answer && result && node.is_attached()) {
        delivery.first_answer = now_;
    }
}

void Deliveries::release(Delivery& delivery) {
    delivery.is_owned = false;
    if (delivery.running == 0) recycle(delivery);
}

async::Task<Result<>> Deliveries::ask(Node& node, const block::Request& request,
                                      io::TimePoint deadline) {
    Delivery& delivery = take(request);
    send(delivery, node);
    bool is_late = false;
    while (!delivery.is_settled() && !is_late) {
        if (deadline == io::TimePoint::max())
            co_await delivery.changed.wait();
        else
            is_late = !co_await io::wait_until(clock_, delivery.changed, deadline);
    }
    const Delivery::Part& part = delivery.parts.front();
    Result<> result = fail(ErrorCode::node_lost, "the node has left");
    if (!part.is_excused())
        result = part.is_done ? part.result : fail(ErrorCode::timed_out, "it does not answer");
    release(delivery);
    co_return result;
}

void Deliveries::recycle(Delivery& delivery) {
    delivery.unlink();
    delivery.parts.clear();
    delivery.request = {};
    delivery.buffer = {};
    delivery.first_answer.reset();
    free_.push_back(&delivery);
}

void Deliveries::wake_all() {
    for (Delivery* at = active_.front(); at != nullptr; at = active_.next(*at))
        at->changed.wake_all();
}

}  // namespace dst::mirror
