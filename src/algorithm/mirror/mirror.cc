#include "algorithm/mirror/mirror.h"

#include <fmt/format.h>

#include <algorithm>

#include "algorithm/geometry.h"
#include "algorithm/mirror/superblock_reader.h"
#include "base/check.h"
#include "base/log.h"

namespace dst::mirror {

using block::Op;
using metadata::NodeRecord;

namespace {

/// How long a node may take to flush what it had when it is taken over.
constexpr io::Duration kFlushMax = std::chrono::seconds(60);
/// A takeover that is not in force by then is given up: another head may wait for what this one has
/// claimed, as this one does for what that one has.
constexpr io::Duration kTakeoverMax = std::chrono::seconds(10);

}  // namespace

Mirror::Mirror(io::World& world, Memory memory, metadata::Head head, Settings settings,
               metadata::Form form, Owner& owner)
    : core_(world, memory, head, std::move(settings), owner, scope_),
      membership_(core_),
      lease_(core_),
      sender_(core_, membership_, lease_),
      flushes_(core_, membership_, sender_),
      changes_(core_, membership_, sender_, flushes_),
      reads_(core_, membership_, sender_),
      evening_(core_, membership_, reads_),
      resync_(core_, membership_, reads_),
      joining_(core_, membership_, resync_, lease_),
      roster_(core_, membership_, joining_),
      verify_(core_, membership_, changes_),
      growing_(core_, membership_, changes_, flushes_),
      watch_(core_, membership_, lease_, flushes_, joining_) {
    core_.regions = std::make_unique<Regions>(form.shape, form.storage_id);
    for (const NodeRecord& record : form.nodes) {
        core_.nodes.push_back(std::make_unique<Node>(record));
        core_.nodes.back()->since = world.clock.wall_now();
        if (!record.is_witness) core_.bits().use_slot(record.slot);
    }
    core_.form = std::make_shared<const metadata::Form>(std::move(form));
}

Mirror::~Mirror() = default;

void Mirror::found(metadata::Cookie cookie, Backing& backing, bool is_local) {
    Node* const node = core_.find(cookie);
    CHECK(node != nullptr);
    node->backing = &backing;
    node->is_local = is_local;
    backing.accept_losses();
    if (core_.is_serving || membership_.for_others() != nullptr) backing_changed(cookie);
}

void Mirror::lost(metadata::Cookie cookie) {
    for (const auto& node : core_.retired) {
        if (node->cookie != cookie) continue;
        node->backing = nullptr;
        node->pages.reset();
        node->superblock.reset();
    }
}

void Mirror::backing_changed(metadata::Cookie cookie) {
    if (Node* const node = core_.find(cookie); node != nullptr && !core_.is_over()) {
        watch_.look_at(*node);
        core_.changed();
    }
}

// Making it, taking over ------------------------------------------------------------------------

async::Task<bool> Mirror::until(bool (Mirror::*done)() const) {
    while (!(this->*done)()) {
        if (core_.is_over()) co_return false;
        co_await core_.progress.wait();
    }
    co_return true;
}

bool Mirror::all_are_prepared() const {
    return std::ranges::all_of(core_.nodes, [&](const auto& node) {
        return node->superblock->holds(core_.form->history.age) &&
               (node->pages == nullptr || node->pages->is_in_step());
    });
}

async::Task<Outcome<>> Mirror::create(Init init) {
    const Outcome<> prepared = co_await prepare(init);
    if (!prepared) co_return prepared;
    metadata::Form next = membership_.successor();
    if (!co_await membership_.impose(std::move(next)))
        co_return refuse(ErrorCode::node_lost, "a node was lost while it was being made");
    begin_serving();
    // Nodes whose content is not wanted are copied to.
    for (const auto& node : core_.nodes) {
        if (!node->is_attached()) joining_.admit(*node);
    }
    co_return Outcome<>{};
}

async::Task<Outcome<>> Mirror::prepare(Init init) {
    Bits& bits = core_.bits();
    const RegionRange all{RegionIndex(0), core_.shape().regions()};
    if (init == Init::zero) bits.set(Bits::kUnwritten, all);
    for (const auto& node : core_.nodes) {
        CHECK(node->backing != nullptr);
        CO_TRY_VOID(co_await node->backing->claim());
        core_.become(*node, NodeEvent::found, "is being prepared");
        node->is_known = true;
        joining_.begin_superblocks(*node);
        node->superblock->send(core_.form);
        if (node->is_witness) continue;
        if (core_.record(*node)->attached) {
            core_.become(*node, NodeEvent::named, "attached");
            joining_.begin_pages(*node, true);
        } else {
            bits.set(Bits::stale_of(node->slot), all);
        }
    }
    for (const auto& node : core_.nodes)
        if (node->pages != nullptr) node->pages->hurry();
    if (!co_await until(&Mirror::all_are_prepared))
        co_return refuse(ErrorCode::cancelled, "it was stopped while it was being made");
    co_return Outcome<>{};
}

async::Task<Outcome<>> Mirror::assemble(Takeover takeover) {
    Node* const node = core_.find(takeover.source);
    CHECK(node != nullptr && node->backing != nullptr);
    if (takeover.is_declared)
        declare_bits(*node);
    else
        CO_TRY_VOID(co_await load_bits(*node, takeover));
    // Durably so before an age is sent: whoever holds one has come from there as any other, and
    // what it settled on its own way it does not tell.
    for (const metadata::Cookie cookie : takeover.given_up)
        if (Node* const given_up = core_.find(cookie)) {
            given_up->is_given_up = true;
            if (given_up->is_witness) continue;
            core_.bits().set(Bits::stale_of(given_up->slot),
                             {RegionIndex(0), core_.shape().regions()});
        }
    for (const NodeRecord& record : takeover.first.nodes)
        if (record.attached) CO_TRY_VOID(co_await take_as_attached(*core_.find(record.cookie)));
    core_.regions->assume_settled(core_.world.clock.now());
    // The others have votes meanwhile.
    core_.takes_in = true;
    scope_.spawn(watch_.run());
    is_watching_ = true;
    bool is_late = false;
    auto late = [&] {
        is_late = true;
        end();
    };
    io::Deadline<decltype(late)> timer(late);
    timer.arm(core_.world.clock, core_.world.clock.now() + kTakeoverMax);
    const bool is_in_force = co_await membership_.impose(std::move(takeover.first));
    timer.disarm();
    if (is_late)
        co_return refuse(ErrorCode::timed_out, "the votes for its age could not be had in time");
    if (!is_in_force)
        co_return refuse(ErrorCode::node_lost,
                         fmt::format("{} was lost while it was being assembled", node->type));
    begin_serving();
    if (!co_await growing_.make_rest_zero())
        co_return refuse(ErrorCode::cancelled, "it was stopped while it was being assembled");
    co_return Outcome<>{};
}

/// One that is lost comes back, and is as good as before.
void Mirror::note_broken(const Node& node, Error error) {
    if (error.code != ErrorCode::node_lost && !core_.is_over()) broken_ = node.cookie;
}

void Mirror::declare_bits(const Node& source) {
    const RegionRange all{RegionIndex(0), core_.shape().regions()};
    for (const auto& node : core_.nodes)
        if (!node->is_witness && node.get() != &source)
            core_.bits().set(Bits::stale_of(node->slot), all);
}

async::Task<Outcome<>> Mirror::take_as_attached(Node& node) {
    const auto found = co_await find_superblock(
        node.backing->device(), {node.backing->size(), node.size}, core_.memory.metadata);
    if (!found || !found->reading)
        co_return refuse(fmt::format("the superblock of {} can't be read", node.type));
    node.sequence = found->sequence;
    // What it took and did not make durable is so from here on (rule 6).
    const Result<> flushed = co_await core_.deliveries.ask(
        node, {.op = Op::flush, .if_connected = true}, core_.world.clock.now() + kFlushMax);
    if (!flushed) {
        note_broken(node, flushed.error());
        co_return refuse(flushed.error().code, fmt::format("flushing {} failed: {}", node.type,
                                                           to_string(flushed.error().code)));
    }
    core_.become(node, NodeEvent::found, "attached");
    core_.become(node, NodeEvent::named, "attached");
    node.is_known = true;
    joining_.begin_superblocks(node, *found);
    joining_.begin_pages(node, true);
    co_return Outcome<>{};
}

async::Task<Outcome<>> Mirror::load_bits(Node& source, const Takeover& takeover) {
    const std::vector<metadata::Cookie>& others = takeover.others;
    CO_TRY_VOID(co_await load_one(source, Bits::kIntent, others));
    CO_TRY_VOID(co_await load_one(source, Bits::kUnwritten, others));
    const RegionRange all{RegionIndex(0), core_.shape().regions()};
    for (const auto& node : core_.nodes) {
        if (node->is_witness) continue;
        const BitmapName name = Bits::stale_of(node->slot);
        CO_TRY_VOID(co_await load_one(source, name, others));
        // Whatever was being changed may be different on each of them (rule 4); nothing was if more
        // than one is attached from the start.
        const NodeRecord* const record = takeover.first.find(node->cookie);
        if (record != nullptr && record->attached)
            core_.bits().clear(name, all);
        else
            core_.bits().set_all_of(name, core_.bits().intent());
    }
    co_return Outcome<>{};
}

/// A bitmap as the source has it. Where that is damaged, as another node that is attached in the
/// age has it; where all of them are, as it is safe.
async::Task<Outcome<>> Mirror::load_one(Node& source, BitmapName name,
                                        const std::vector<metadata::Cookie>& others) {
    Bitmap damaged(core_.shape().regions());
    auto loaded = co_await joining_.load_bitmap(source, name, damaged);
    if (!loaded) {
        note_broken(source, loaded.error());
        co_return refuse(loaded.error().code,
                         fmt::format("reading the bitmaps of {} failed: {}", source.type,
                                     to_string(loaded.error().code)));
    }
    Bitmap bitmap = *std::move(loaded);
    const std::uint64_t damaged_here = damaged.count().value();
    for (auto other = others.begin(); damaged.any() && other != others.end(); ++other) {
        Node* const node = core_.find(*other);
        if (node == nullptr || node == &source || !node->is_connected()) continue;
        Bitmap damaged_there(core_.shape().regions());
        const auto there = co_await joining_.load_bitmap(*node, name, damaged_there);
        if (!there) continue;
        for (auto at = damaged.next_set(RegionIndex(0)); at;
             at = damaged.next_set(*at + RegionCount(1))) {
            if (damaged_there.test(*at)) continue;
            if (there->test(*at))
                bitmap.set(*at);
            else
                bitmap.clear(*at);
            damaged.clear(*at);
        }
    }
    if (damaged_here > 0)
        log::warning(
            "storage {}: a bitmap of {} is damaged for {} regions; no other node can tell "
            "of {} of them, which count as changed",
            core_.settings.name, source.type, damaged_here, damaged.count().value());
    core_.bits().load(name, std::move(bitmap));
    co_return Outcome<>{};
}

void Mirror::begin_serving() {
    core_.is_serving = core_.takes_in = true;
    if (!is_watching_) scope_.spawn(watch_.run());
    is_watching_ = true;
    scope_.spawn(membership_.run());
    scope_.spawn(evening_.run());
    core_.changed();
}

// Serving ---------------------------------------------------------------------------------------

block::Geometry Mirror::geometry() const {
    block::Geometry whole = algorithm::kNeutralGeometry;
    for (const auto& node : core_.nodes)
        if (node->backing != nullptr && node->takes_part())
            algorithm::merge_limits(whole, node->backing->device().geometry());
    // As long as it lives, whoever comes and goes.
    whole.block_bytes = core_.form->block_bytes;
    whole.size = core_.form->shape.data_size;
    whole.can_flush = whole.can_trim = true;
    whole.read_only = false;
    return whole;
}

async::Task<Result<>> Mirror::execute(block::Request& request) {
    core_.wake_watch();
    if (!resync_.is_running()) return perform(request);
    return perform_timed(request);
}

async::Task<Result<>> Mirror::perform(block::Request& request) {
    switch (request.op) {
        case Op::read:
            return reads_.read(request);
        case Op::block_status:
            return reads_.block_status(request);
        case Op::flush:
            return flushes_.flush();
        case Op::write:
        case Op::trim:
        case Op::write_zeroes:
            return changes_.change(request);
    }
    check_failed("a known operation", __FILE__, __LINE__);
}

async::Task<Result<>> Mirror::perform_timed(block::Request& request) {
    const io::TimePoint begun = core_.world.clock.now();
    const Result<> done = co_await perform(request);
    resync_.note_latency(core_.world.clock.now() - begun);
    co_return done;
}

void Mirror::set_resync(SectorCount size, io::Duration timeout) {
    core_.settings.resync_size = size;
    core_.settings.resync_timeout = timeout;
    core_.changed();
}

bool Mirror::lacks_all(metadata::Cookie cookie) const {
    const Node* const node = core_.find(cookie);
    return node != nullptr &&
           (node->is_witness || core_.bits().stale(node->slot).count() == core_.shape().regions());
}

// The end ---------------------------------------------------------------------------------------

void Mirror::hurry() {
    constexpr io::Duration kPatience = std::chrono::seconds(2);
    core_.settings.slow = std::min(core_.settings.slow, kPatience);
    core_.settings.grace = std::min(core_.settings.grace, kPatience);
    core_.changed();
}

async::Task<bool> Mirror::finish(io::TimePoint deadline) {
    if (!is_serving()) co_return false;
    bool is_late = false;
    auto late = [&] {
        is_late = true;
        end();
    };
    io::Deadline<decltype(late)> timer(late);
    timer.arm(core_.world.clock, deadline);
    const bool in_order = co_await finish_in_order();
    co_return in_order && !is_late;
}

async::Task<bool> Mirror::finish_in_order() {
    if (!co_await flushes_.flush()) co_return false;
    while (core_.regions->has_settled()) {
        if (core_.is_over()) co_return false;
        if (!flushes_.clear_all_intents()) co_await core_.progress.wait();
    }
    const auto are_in_step = [&] {
        return std::ranges::all_of(core_.nodes, [](const auto& node) {
            if (!node->is_attached()) return true;
            node->pages->hurry();
            return node->pages->is_in_step();
        });
    };
    while (!are_in_step()) {
        if (core_.is_over()) co_return false;
        co_await core_.progress.wait();
    }
    if (core_.regions->unsettled().any()) co_return false;
    const auto say_so = [](metadata::Form& form) { form.stopped_cleanly = true; };
    co_return (co_await membership_.change(say_so, io::TimePoint::max())).has_value();
}

void Mirror::end() {
    core_.is_stopping = true;
    for (const auto& node : core_.nodes) {
        if (node->pages != nullptr) node->pages->stop();
        if (node->superblock != nullptr) node->superblock->stop();
        if (node->next_pages != nullptr) node->next_pages->stop();
        if (node->next_superblock != nullptr) node->next_superblock->stop();
    }
    core_.progress.wake_all();
    core_.deliveries.wake_all();
}

async::Task<void> Mirror::join() {
    co_await scope_.join();
    co_await core_.deliveries.join();
}

std::vector<Mirror::NodeView> Mirror::nodes() const {
    std::vector<NodeView> views;
    for (const NodeRecord& record : core_.form->nodes) {
        const Node* const node = core_.find(record.cookie);
        if (node == nullptr) continue;
        SectorCount stale;
        if (!node->is_witness)
            stale = SectorCount(core_.bits().stale(node->slot).count().value() *
                                core_.shape().region_size().value());
        views.push_back({.cookie = node->cookie,
                         .state = node->state,
                         .is_connected = node->is_connected(),
                         .stale = stale,
                         .reason = node->reason,
                         .since = node->since,
                         .read_errors = node->read_errors,
                         .rewritten = node->rewritten});
    }
    return views;
}

Mirror::Prospect Mirror::prospect(std::span<const metadata::Cookie> lost, bool is_head_lost) const {
    Prospect prospect{.outlook = membership_.outlook_after(lost, is_head_lost), .stakes = {}};
    std::vector<CopyNow> copies;
    for (const NodeRecord& record : core_.form->nodes) {
        const Node* const node = core_.find(record.cookie);
        if (node == nullptr || record.is_witness) continue;
        copies.push_back({.slot = record.slot,
                          .takes_part = node->is_connected() && node->takes_part(),
                          .is_attached = node->is_attached(),
                          .is_lost = std::ranges::find(lost, record.cookie) != lost.end()});
    }
    const bool goes_on = !is_head_lost && prospect.outlook.standing.goes_on();
    prospect.stakes = stakes_of(*core_.regions, copies, goes_on);
    if (is_head_lost) {
        const auto attached = std::ranges::count_if(copies, &CopyNow::is_attached);
        prospect.stakes.resync = prospect.stakes.resync +
                                 crash_resync(*core_.regions, static_cast<std::size_t>(attached));
    }
    return prospect;
}

}  // namespace dst::mirror
