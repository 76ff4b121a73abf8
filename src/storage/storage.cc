#include "storage/storage.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/check.h"
#include "base/log.h"
#include "storage/member.h"

namespace dst::storage {
namespace {

/// FNV-1a: small, and the same everywhere for ever; a cookie must not change with the program.
std::uint64_t stable_hash(std::string_view text) {
    std::uint64_t hash = 0xcbf29ce484222325;
    for (const char letter : text) {
        hash ^= static_cast<unsigned char>(letter);
        hash *= 0x100000001b3;
    }
    return hash;
}

std::string who_waits(std::size_t requests) {
    if (requests == 0) return {};
    return requests == 1 ? "1 request waits for " : fmt::format("{} requests wait for ", requests);
}

std::uint64_t draw(io::Random& random) {
    std::uint64_t drawn = 0;
    while (drawn == 0) drawn = random.next();
    return drawn;
}

}  // namespace

std::string_view to_string(State state) {
    switch (state) {
        case State::running:
            return "running";
        case State::degraded:
            return "degraded";
        case State::holding:
            return "holding";
        case State::waiting:
            return "waiting";
        case State::fenced:
            return "fenced";
        case State::stopped:
            return "stopped";
    }
    return "unknown";
}

Storage::Storage(Surroundings& around, Settings settings)
    : around_(around),
      settings_(std::move(settings)),
      instance_(draw(around.world.random)),
      since_(around.world.clock.wall_now()) {}

Storage::~Storage() = default;

/// Without metadata a node's cookie comes from the storage's name and the node's place in it.
node::Cookie Storage::cookie_of(std::size_t place) const {
    return stable_hash(fmt::format("{}/{}", settings_.name, place));
}

std::uint64_t Storage::instance() const {
    std::uint64_t instance = instance_;
    if (is_stacked_)
        for (const auto& member : members_) instance ^= member->instance_change();
    return instance == 0 ? 1 : instance;
}

std::uint64_t Storage::identity() const { return stable_hash(settings_.name); }

Outcome<> Storage::start() {
    CHECK(!is_started());
    TRY(algorithm_, around_.registry.create(settings_.algorithm, settings_.options));
    stopping_ = false;
    refusal_.clear();
    since_ = around_.world.clock.wall_now();
    for (std::size_t place = 0; place < settings_.members.size(); ++place)
        members_.push_back(
            std::make_unique<Member>(*this, settings_.members[place], cookie_of(place)));
    scope_.spawn(form());
    return {};
}

/// Opens all nodes at once; places them in their order when the last one is there.
async::Task<void> Storage::form() {
    async::Scope opening;
    for (auto& member : members_) opening.spawn(member->open());
    co_await opening.join();
    if (stopping_) co_return;
    for (auto& member : members_) {
        if (!member->is_there()) co_return;
        if (const Outcome<> placed = place(*member); !placed) {
            refusal_ = placed.error().text;
            log::error("storage {}: {}", name(), refusal_);
            changes_.wake_all();
            co_return;
        }
    }
    is_formed_ = true;
    instance_ = draw(around_.world.random);
    since_ = around_.world.clock.wall_now();
    log::info("storage {}: running, {} sectors on {} nodes", name(), geometry().size.value(),
              members_.size());
    changes_.wake_all();
}

Outcome<> Storage::place(Member& member) {
    const Outcome<> placed = algorithm_->add_node(member.make_node());
    if (!placed) member.drop_node();
    return placed;
}

const Storage::Member* Storage::first_missing() const {
    for (const auto& member : members_)
        if (!member->is_there()) return member.get();
    return nullptr;
}

async::Task<Outcome<>> Storage::formed(io::TimePoint deadline) {
    while (!is_formed_) {
        if (!refusal_.empty()) co_return refuse(refusal_);
        if (stopping_ || !is_started()) co_return refuse(ErrorCode::cancelled, "it is stopped");
        if (around_.ending) co_return refuse(ErrorCode::shutting_down, "the daemon is stopping");
        for (const auto& member : members_)
            if (member->is_hopeless())
                co_return refuse(ErrorCode::not_found,
                                 fmt::format("{}: {}", member->spec().type, member->reason()));
        if (!co_await io::wait_until(around_.world.clock, changes_, deadline) && !is_formed_)
            co_return refuse(ErrorCode::timed_out, obstacle());
    }
    co_return Outcome<>{};
}

std::string Storage::obstacle() const {
    if (is_formed_) return {};
    if (!is_started()) return "it is stopped: start it with 'dst storage start " + name() + "'";
    if (!refusal_.empty()) return refusal_;
    const Member* const missing = first_missing();
    return missing != nullptr
               ? fmt::format("waits for {}: {}", missing->spec().type, missing->reason())
               : "its nodes are being placed";
}

async::Task<Outcome<>> Storage::stop(io::TimePoint deadline) {
    stopping_ = true;
    std::vector<std::string> losses;
    for (auto& member : members_) member->give_up();
    {
        async::Scope closing;
        for (auto& member : members_) closing.spawn(member->close(deadline, losses));
        co_await closing.join();
    }
    changes_.wake_all();
    co_await scope_.join();
    // All of them were answered or failed; let them get out.
    while (in_flight_ > 0) co_await idle_.wait();
    if (is_formed_) log::info("storage {}: stopped", name());
    is_formed_ = false;
    for (auto member = members_.rbegin(); member != members_.rend(); ++member)
        if ((*member)->node() != nullptr) algorithm_->del_node(*(*member)->node());
    algorithm_.reset();
    members_.clear();
    since_ = around_.world.clock.wall_now();
    changes_.wake_all();
    if (losses.empty()) co_return Outcome<>{};
    log::error("storage {}: stopped, but {}", name(), fmt::join(losses, ", "));
    co_return refuse(ErrorCode::io_error, fmt::format("storage '{}' is stopped, but {}", name(),
                                                      fmt::join(losses, ", ")));
}

void Storage::abandon() {
    for (auto& member : members_) member->abandon();
}

bool Storage::is_all_connected() const {
    return is_formed_ &&
           std::ranges::all_of(members_, [](const auto& member) { return member->is_connected(); });
}

std::size_t Storage::requests_waiting() const {
    std::size_t waiting = 0;
    for (const auto& member : members_) waiting += member->requests_waiting();
    return waiting;
}

void Storage::hurry() {
    if (!stopping_) return;
    for (auto& member : members_) member->hurry();
}

async::Task<Outcome<>> Storage::add_node(MemberSpec spec, io::TimePoint deadline) {
    if (!is_formed_)
        co_return refuse(ErrorCode::busy,
                         fmt::format("storage {} can't take a node now: {}", name(), obstacle()));
    auto member = std::make_unique<Member>(*this, spec, cookie_of(members_.size()));
    Member& added = *member;
    async::Scope opening;
    opening.spawn(added.open());
    while (!added.is_there() && !added.is_hopeless() && !stopping_ && !around_.ending) {
        if (!co_await io::wait_until(around_.world.clock, changes_, deadline)) break;
    }
    Outcome<> placed;
    if (stopping_ || around_.ending)
        placed = refuse(ErrorCode::cancelled, fmt::format("storage {} is being stopped", name()));
    else if (!added.is_there())
        placed = refuse(ErrorCode::not_found, fmt::format("node {} was not added: {}",
                                                          added.spec().type, added.reason()));
    else
        placed = place(added);
    added.give_up();
    co_await opening.join();
    if (!placed) {
        std::vector<std::string> losses;  // none: it was never used
        co_await added.close(around_.world.clock.now(), losses);
        co_return placed;
    }
    members_.push_back(std::move(member));
    settings_.members.push_back(std::move(spec));
    log::info("storage {}: {} added, {} sectors now", name(), added.spec().type,
              geometry().size.value());
    changes_.wake_all();
    co_return placed;
}

void Storage::member_lost(Member& member) {
    if (!stopping_ && member.node() != nullptr) scope_.spawn(report_lost(member));
    changes_.wake_all();
}

void Storage::lose_changes() { instance_ = draw(around_.world.random); }

/// The seed's `error` callback: the algorithm may do something about a lost link.
async::Task<void> Storage::report_lost(Member& member) {
    const auto recovery =
        co_await algorithm_->error(*member.node(), {ErrorCode::node_lost, "connection lost"});
    if (recovery == algorithm::Recovery::not_fixed)
        log::error("storage {}: {} is lost and {} can't do without it", name(), member.spec().type,
                   settings_.algorithm);
}

block::Geometry Storage::geometry() const {
    return is_formed_ ? algorithm_->geometry() : block::Geometry{};
}

async::Task<Result<>> Storage::execute(block::Request& request) {
    struct InFlight {
        Storage& storage;
        explicit InFlight(Storage& of) : storage(of) { ++storage.in_flight_; }
        ~InFlight() {
            if (--storage.in_flight_ == 0) storage.idle_.wake_all();
        }
        InFlight(const InFlight&) = delete;
        InFlight& operator=(const InFlight&) = delete;
    };
    if (!is_formed_) co_return fail(ErrorCode::shutting_down, "the storage is not running");
    const InFlight in_flight(*this);
    if (request.op == block::Op::flush) co_return co_await algorithm_->remap(request);
    using Mode = async::RangeLock::Mode;
    async::RangeLock::Hold hold(locks_, request.range,
                                block::is_change(request.op) ? Mode::exclusive : Mode::shared);
    co_await hold.granted();
    co_return co_await algorithm_->remap(request);
}

/// What the nodes will be: of no size while nobody has looked.
std::vector<NodeStatus> Storage::stopped_nodes() const {
    std::vector<NodeStatus> nodes;
    for (std::size_t place = 0; place < settings_.members.size(); ++place)
        nodes.push_back({.cookie = cookie_of(place),
                         .type = settings_.members[place].type,
                         .start = {},
                         .size = {},
                         .in_sync = true,
                         .connected = false,
                         .stale = {},
                         .reason = "the storage is stopped",
                         .since = since_,
                         .flags = {}});
    return nodes;
}

StorageStatus Storage::status() const {
    StorageStatus status{.name = name(),
                         .algorithm = settings_.algorithm,
                         .size = geometry().size,
                         .state = State::stopped,
                         .reason = {},
                         .since = since_,
                         .nodes = {}};
    std::size_t waiting = 0;
    const Member* lost = nullptr;
    for (const auto& member : members_) {
        status.nodes.push_back(member->status());
        waiting += member->requests_waiting();
        status.since = std::max(status.since, status.nodes.back().since);
        if (lost == nullptr && !member->is_connected()) lost = member.get();
    }
    if (!is_started()) {
        status.nodes = stopped_nodes();
        status.reason = "stopped; 'dst storage start " + name() + "' starts it";
    } else if (!is_formed_) {
        status.state = State::waiting;
        status.reason = obstacle();
    } else if (lost == nullptr) {
        status.state = State::running;
        status.reason = "all nodes are connected";
    } else {
        status.state = waiting > 0 ? State::holding : State::degraded;
        status.since = lost->status().since;
        status.reason = fmt::format("{}{}: {}; goes on when it is back", who_waits(waiting),
                                    lost->spec().type, lost->reason());
    }
    return status;
}

}  // namespace dst::storage
