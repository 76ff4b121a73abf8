#include "algorithm/mirror/joining.h"

#include <fmt/format.h>

#include <algorithm>

#include "algorithm/mirror/holds.h"
#include "base/check.h"
#include "base/log.h"
#include "metadata/assembly.h"

namespace dst::mirror {
namespace {

using block::Op;
using block::Request;
using namespace std::chrono_literals;

/// One that can't be taken in as it is, or was not to be had, is looked at again after this time.
constexpr io::Duration kLookAgainAfter = 5s;
/// How long reading a page may take: a disk that hangs has an exporter that answers pings.
constexpr io::Duration kAnswerMax = 30s;

}  // namespace

bool Joining::may_begin(const Node& node) const {
    const io::TimePoint now = core_.world.clock.now();
    return core_.takes_in && node.state == NodeState::away && node.is_connected() &&
           // Not just a ping that is under way: whoever looks in step with pings always sees one.
           !node.is_silent(now, core_.settings.grace / 2) && !node.backing->is_taken() &&
           node.is_quiet() && core_.record(node) != nullptr && now >= node.try_again_at;
}

async::Task<void> Joining::take_in(Node& node) {
    const std::string reason_before = node.reason;
    core_.become(node, NodeEvent::found, "looking at its superblock");
    node.backing->accept_losses();  // what it lacks is known
    const std::uint64_t membership = node.membership;
    const auto is_still_in = [&] { return node.membership == membership && !core_.is_over(); };
    const InUse use(core_, node);
    const std::uint64_t medium = node.backing->instance();
    const Outcome<> looked = co_await look_at(node);
    if (!is_still_in()) co_return;
    if (!looked) {
        if (looked.error().text != reason_before)
            log::warning("storage {}: {} can't join: {}", core_.settings.name, node.type,
                         looked.error().text);
        node.try_again_at = core_.world.clock.now() + kLookAgainAfter;
        core_.become(node, NodeEvent::left, looked.error().text);
        co_return;
    }
    node.found_on = medium;
    // Before the mirror serves, the node has a vote and no more.
    while (!core_.is_serving && is_still_in()) co_await core_.progress.wait();
    if (!is_still_in()) co_return;
    admit(node);
}

void Joining::admit(Node& node) {
    if (!node.is_witness && !node.copied) node.begin_copying(core_.shape().regions());
    core_.become(node, NodeEvent::admitted,
                 node.is_witness ? "has a vote" : "what it lacks is copied to it");
    if (!node.is_witness) core_.scope.spawn(bring_up(node));
}

async::Task<void> Joining::bring_up(Node& node) {
    const InUse use(core_, node);
    const std::uint64_t membership = node.membership;
    const auto is_still_in = [&] { return node.membership == membership && !core_.is_over(); };
    const Bitmap& stale = core_.bits().stale(node.slot);
    while (is_still_in() && node.is_joining()) {
        co_await resync_.run(node);
        if (!is_still_in() || node.is_leaving) co_return;
        if (stale.any()) continue;
        core_.become(node, NodeEvent::copied, "gets the bitmaps");
        // Its own intents are not needed any more: where they were it has been copied to.
        if (!node.holds_bits) begin_pages(node, true);
        // What comes in between is written too, until an age names it.
        while (is_still_in() && node.state == NodeState::completing && !stale.any()) {
            node.pages->hurry();
            co_await core_.progress.wait();
        }
        if (is_still_in() && !node.is_leaving && node.state == NodeState::completing)
            core_.become(node, NodeEvent::fell_behind, "what it lacks is copied to it");
    }
}

async::Task<Outcome<>> Joining::look_at(Node& node) {
    const Outcome<> claimed = co_await node.backing->claim();
    node.is_held_elsewhere = !claimed && claimed.error().code == ErrorCode::not_permitted;
    if (!claimed) {
        node.found_on.reset();
        co_return claimed;
    }
    if (core_.record(node) == nullptr) co_return refuse("it is not in the table any more");
    if (node.backing->size() < node.size) co_await node.backing->has_grown();
    if (const SectorCount size = node.backing->size(); size < node.size)
        co_return refuse(
            fmt::format("it has {} sectors and had {}: restore the disk that was there",
                        size.value(), node.size.value()));
    const auto find = [&] {
        return find_superblock(node.backing->device(), {node.backing->size(), node.size},
                               core_.memory.metadata);
    };
    auto looked = co_await find();
    if (looked && !looked->reading && co_await node.backing->has_grown()) looked = co_await find();
    if (!looked)
        co_return refuse(looked.error().code, fmt::format("its superblock can't be read: {}",
                                                          to_string(looked.error().code)));
    node.found_on.reset();  // unless what is there says so
    const metadata::Reading& reading = looked->reading;
    if (!reading && !is_new(node, reading.error()))
        co_return refuse(
            fmt::format("it {}: restore the disk that was there, or let another one take its place "
                        "(dst node replace)",
                        metadata::to_string(reading.error())));
    Bitmap own(core_.shape().regions(), true);  // of a new one nothing is right
    if (reading) {
        const metadata::Superblock& found = *reading;
        CO_TRY(const bool is_all_stale, judge(node, found));
        node.sequence = looked->sequence;
        if (!node.is_witness) {
            CO_TRY(own, co_await own_doubts(node, found, is_all_stale));
        }
    }
    if (!node.is_witness) {
        if (core_.is_over()) co_return refuse("the mirror is stopping");
        core_.bits().use_slot(node.slot);
        core_.bits().set_all_of(Bits::stale_of(node.slot), own);
        node.is_known = true;
        node.begin_copying(core_.shape().regions());
    }
    begin_superblocks(node, *looked);
    // One that lies where the node ended before, or will end, is not where it will be looked for.
    const bool is_in_place = reading && looked->end == node.size;
    if (is_in_place && reading->self().size == node.size)
        node.superblock->assume(reading->form.history.age);
    if (const FormHandle form = membership_.for_others();
        form != nullptr && form->find(node.cookie) != nullptr)
        node.superblock->send(form);
    co_return Outcome<>{};
}

/// What may be anything there, by what the node itself says: what was being changed when it left.
async::Task<Outcome<Bitmap>> Joining::own_doubts(Node& node, const metadata::Superblock& found,
                                                 bool is_all_stale) {
    const RegionCount regions = core_.shape().regions();
    if (is_all_stale || found.form.shape != core_.shape()) co_return Bitmap(regions, true);
    if (node.is_known) co_return Bitmap(regions);
    Bitmap damaged(regions);
    auto intent = co_await load_bitmap(node, Bits::kIntent, damaged);
    if (!intent)
        co_return refuse(intent.error().code, fmt::format("its bitmaps can't be read: {}",
                                                          to_string(intent.error().code)));
    co_return *std::move(intent);
}

/// It was added, and has not got its first superblock yet. Where it had one and has lost it the
/// disk was exchanged: that is for a person to say.
bool Joining::is_new(const Node& node, const metadata::Unreadable& found) const {
    return found.kind == metadata::Unreadable::Kind::blank &&
           (node.is_witness || core_.bits().stale(node.slot).count() == core_.shape().regions());
}

/// Rule 8: whether it came from where we are; true if nothing on it is known to be right.
Outcome<bool> Joining::judge(Node& node, const metadata::Superblock& found) const {
    const metadata::Form& now = membership_.newest_form();
    switch (metadata::admit(now, found)) {
        case metadata::Admission::joins:
            break;
        case metadata::Admission::is_foreign:
            return refuse(fmt::format(
                "it belongs to another storage, '{}' ({}): give it to that one, or erase it and "
                "add it anew",
                found.form.name, metadata::to_string(found.form.storage_id)));
        case metadata::Admission::is_no_member:
            return refuse(
                fmt::format("it is no node of this storage any more: erase it and add it "
                            "anew, or take it out of the configuration"));
        case metadata::Admission::is_newer:
            node.is_astray = true;
            return refuse(fmt::format("another head has gone on from here: its age is {}",
                                      metadata::to_string(found.form.history.age)));
        case metadata::Admission::is_diverged:
            if (node.is_given_up) break;
            node.is_astray = true;
            return refuse(fmt::format(
                "it has diverged: its age {} is not one that the present one ({}) came "
                "from; 'dst node remove' and 'dst node add --force' have it overwritten",
                metadata::to_string(found.form.history.age), metadata::to_string(now.history.age)));
    }
    if (found.cookie != node.cookie)
        return refuse(fmt::format("it is another node of this storage ({:016x}): correct its place",
                                  found.cookie));
    const bool is_astray = !metadata::passes_through(now.history, found.form.history.age);
    // That its age can't have been in force is true of a head that nobody can have replaced. One
    // that slept may find a successor's nodes, whose history has forgotten where it came from.
    if (is_astray && !node.is_given_up && core_.is_serving && !lease_.holds()) {
        node.is_astray = true;
        return refuse(fmt::format(
            "its age {} is not one that the present one ({}) came from, and too few "
            "nodes vouch for this head at the moment",
            metadata::to_string(found.form.history.age), metadata::to_string(now.history.age)));
    }
    node.is_astray = false;
    return is_astray;
}

async::Task<Result<Bitmap>> Joining::load_bitmap(Node& node, BitmapName name, Bitmap& damaged) {
    const auto layout = metadata::Layout::of(core_.shape(), node.size);
    CHECK(layout.has_value());
    Bitmap bitmap(core_.shape().regions());
    for (std::uint32_t page = 0; page < core_.shape().bitmap_pages(); ++page) {
        const block::Buffer buffer = co_await core_.memory.metadata.allocate(metadata::kPageBytes);
        if (!buffer) co_return fail(ErrorCode::no_memory, "memory is given up");
        const auto bytes = buffer.bytes().first<metadata::kPageBytes>();
        Request request{
            .op = Op::read, .range = layout->page(name, page), .data = bytes, .buffer = &buffer};
        request.if_connected = true;
        const Result<> done =
            co_await core_.deliveries.ask(node, request, core_.world.clock.now() + kAnswerMax);
        // A sector that can't be read is one that is damaged.
        if (!done && done.error().code == ErrorCode::io_error)
            std::ranges::fill(bytes, std::byte{0xFF});
        else
            CO_TRY_VOID(done);
        const metadata::DamagedSectors bad =
            metadata::decode_page(bytes, core_.form->storage_id, name, page, bitmap);
        for (unsigned sector = 0; sector < metadata::kPageSectorCount; ++sector)
            if ((bad >> sector & 1) != 0)
                damaged.set(metadata::regions_of_sector(bitmap, page, sector));
    }
    co_return bitmap;
}

void Joining::begin_superblocks(Node& node, const FoundSuperblock& found) {
    CHECK(node.writers == 0);
    const unsigned spare = found.end == node.size ? found.spare : 0;
    node.superblock = std::make_unique<SuperblockWriter>(
        node.backing->device(), node.size, spare, node.cookie, node.sequence, core_.memory.metadata,
        core_.world.clock, core_.progress);
    node.pages.reset();
    core_.begin_writing(node, *node.superblock);
}

void Joining::begin_pages(Node& node, bool all) {
    CHECK(node.pages == nullptr && !node.holds_bits);
    const auto layout = metadata::Layout::of(core_.shape(), node.size);
    CHECK(layout.has_value());
    node.pages =
        std::make_unique<PageWriter>(core_.bits(), node.backing->device(), *layout,
                                     core_.memory.metadata, core_.world.clock, core_.progress);
    node.holds_bits = true;
    // Intents have to be durable here, too, from now on.
    core_.regions->close_all();
    if (all)
        node.pages->write_all();
    else
        for (const PageNumber page : core_.bits().pages()) node.pages->assume_durable(page);
    core_.begin_writing(node, *node.pages);
}

}  // namespace dst::mirror
