#include "algorithm/mirror/roster.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/log.h"

namespace dst::mirror {
namespace {

using metadata::Form;
using metadata::NodeRecord;

void set_quorum(Form& form, Roster::Policy policy) {
    form.quorum =
        policy.value_or(form.votes() >= 3 ? metadata::Quorum::majority : metadata::Quorum::none);
}

}  // namespace

Outcome<Node*> Roster::find(metadata::Cookie cookie) const {
    Node* const node = core_.find(cookie);
    if (node == nullptr || core_.record(*node) == nullptr)
        return refuse(ErrorCode::not_found, "it is no node of this storage");
    return node;
}

void Roster::make_all_stale(std::uint8_t slot) {
    core_.bits().use_slot(slot);
    core_.bits().set(Bits::stale_of(slot), {RegionIndex(0), core_.shape().regions()});
}

Outcome<> Roster::check_size(SectorCount size, bool is_witness) const {
    if (is_witness) return metadata::check_witness_size(size);
    const metadata::Shape& shape = core_.shape();
    if (metadata::Layout::of(shape, size)) return {};
    return refuse(ErrorCode::no_space,
                  fmt::format("it has {} sectors and needs {}: {} for the data and {} for the "
                              "metadata",
                              size.value(), (shape.data_size + shape.metadata_size()).value(),
                              shape.data_size.value(), shape.metadata_size().value()));
}

/// The lowest one that no node has.
Outcome<std::uint8_t> Roster::free_slot() const {
    const metadata::Shape& shape = core_.shape();
    for (std::uint8_t slot = 0; slot < shape.slots; ++slot)
        if (std::ranges::find(core_.form->nodes, slot, &NodeRecord::slot) ==
            core_.form->nodes.end())
            return slot;
    return refuse(ErrorCode::no_space,
                  fmt::format("the nodes have room for the metadata of {} nodes, and all are there",
                              shape.slots));
}

async::Task<Outcome<>> Roster::prepare(Node& node, Backing& backing, bool is_local) {
    node.backing = &backing;
    node.is_local = is_local;
    core_.become(node, NodeEvent::found, "is being added");
    // It counts as a vote for the age that takes it in.
    joining_.begin_superblocks(node);
    CO_TRY_VOID(co_await backing.claim());
    co_return Outcome<>{};
}

async::Task<Outcome<>> Roster::add(Newcomer newcomer, Backing& backing, bool is_local,
                                   Policy policy, io::TimePoint deadline) {
    newcomer.attached = false;
    CO_TRY_VOID(check_size(newcomer.size, newcomer.is_witness));
    const std::uint32_t block = backing.device().geometry().block_bytes;
    if (block > core_.form->block_bytes && !newcomer.is_witness)
        co_return refuse(
            fmt::format("it has blocks of {} bytes, and who uses the storage may write {}: take a "
                        "disk of such blocks",
                        block, core_.form->block_bytes));
    if (newcomer.is_witness) {
        newcomer.slot = NodeRecord::kNoSlot;
    } else {
        CO_TRY(newcomer.slot, free_slot());
        make_all_stale(newcomer.slot);
    }
    Node& node = *core_.nodes.emplace_back(std::make_unique<Node>(newcomer));
    ++node.tasks;
    Outcome<> done = co_await prepare(node, backing, is_local);
    if (done) {
        const auto take_in = [&](Form& form) {
            form.nodes.push_back(newcomer);
            set_quorum(form, policy);
        };
        done = co_await membership_.change(take_in, deadline);
    }
    --node.tasks;
    if (core_.is_over()) co_return refuse(ErrorCode::cancelled, "the storage is being stopped");
    if (core_.record(node) == nullptr) {
        // By now it may have come in, and been removed: then it is retired already.
        if (core_.find(node.cookie) != nullptr) {
            membership_.give_up(node, "was not added");
            core_.retire(node);
        }
        co_return done ? refuse(ErrorCode::cancelled, "it was removed meanwhile") : std::move(done);
    }
    if (node.state == NodeState::admitting) joining_.admit(node);
    co_return Outcome<>{};
}

async::Task<Outcome<>> Roster::remove(metadata::Cookie cookie, Policy policy,
                                      io::TimePoint deadline) {
    CO_TRY(Node* const node, find(cookie));
    const auto take_out = [&](Form& form) {
        std::erase_if(form.nodes,
                      [&](const NodeRecord& record) { return record.cookie == cookie; });
        set_quorum(form, policy);
    };
    const std::string type = node->type;
    if (membership_.has_to_leave_first(*node, take_out))
        CO_TRY_VOID(co_await detach(cookie, deadline));
    CO_TRY_VOID(co_await membership_.change(take_out, deadline));
    log::info("storage {}: {} was removed", core_.settings.name, type);
    co_return Outcome<>{};
}

/// An age without it is in force.
async::Task<Outcome<>> Roster::detach(metadata::Cookie cookie, io::TimePoint deadline) {
    const auto is_detached = [&](const Node& node) {
        const NodeRecord* const record = core_.record(node);
        return !node.is_attached() && record != nullptr && !record->attached;
    };
    while (true) {
        CO_TRY(Node* const node, find(cookie));
        if (is_detached(*node)) co_return Outcome<>{};
        if (core_.is_over()) co_return refuse(ErrorCode::cancelled, "the storage is being stopped");
        if (!membership_.expel(*node, "is being removed")) co_return Membership::refuse_as_last();
        if (!co_await core_.progress_until(deadline))
            co_return refuse(ErrorCode::timed_out, "it takes too long to go on without it");
    }
}

bool Roster::is_gone(metadata::Cookie cookie) const {
    if (core_.find(cookie) != nullptr) return false;
    return std::ranges::all_of(core_.retired, [cookie](const auto& node) {
        return node->cookie != cookie || node->is_quiet();
    });
}

async::Task<Outcome<>> Roster::distrust(metadata::Cookie cookie, io::TimePoint deadline) {
    CO_TRY(Node* const node, find(cookie));
    if (node->is_witness) co_return refuse("it is a witness: it has no data that could be wrong");
    if (node->is_attached()) {
        if (node->has_failed)
            co_return refuse(ErrorCode::busy, "it is leaving already: " + node->reason);
        node->is_distrusted = true;
        if (!membership_.expel(*node, "marked dirty")) {
            node->is_distrusted = false;
            co_return Membership::refuse_as_last();
        }
    } else {
        make_all_stale(node->slot);
        node->missed({RegionIndex(0), core_.shape().regions()});
        core_.changed();
    }
    const auto is_noted = [&] {
        return !node->is_attached() && membership_.is_stale_durable(node->slot);
    };
    while (!is_noted()) {
        if (core_.is_over()) co_return refuse(ErrorCode::cancelled, "the storage is being stopped");
        if (!co_await core_.progress_until(deadline))
            co_return refuse(ErrorCode::timed_out,
                             "it takes too long; it may be done later: see 'dst status'");
    }
    log::info("storage {}: {} was marked dirty", core_.settings.name, node->type);
    co_return Outcome<>{};
}

}  // namespace dst::mirror
