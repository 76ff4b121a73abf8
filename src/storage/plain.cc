#include "storage/plain.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/check.h"
#include "base/log.h"
#include "storage/losses.h"

namespace dst::storage {

struct PlainStorage::Placed {
    Placed(PlainStorage& owner, MemberSpec spec, node::Cookie id)
        : cookie(id), member(owner.around_, owner.settings_, std::move(spec), id, owner) {}

    const node::Cookie cookie;
    Member member;
    std::unique_ptr<node::Node> node;

    [[nodiscard]] NodeStatus status() const {
        return {.cookie = cookie,
                .type = member.spec().type,
                .start = node ? node->start() : SectorIndex(),
                .size = node ? node->size() : SectorCount(),
                .in_sync = true,
                .connected = member.is_connected(),
                .stale = {},
                .reason = member.reason(),
                .since = member.since(),
                .flags = member.flags()};
    }
};

PlainStorage::PlainStorage(Surroundings& around, Settings settings)
    : Storage(around, std::move(settings)) {}

PlainStorage::~PlainStorage() = default;

/// Without metadata a node's cookie comes from the storage's name and the node's place in it.
node::Cookie PlainStorage::cookie_of(std::size_t place) const {
    return stable_hash(fmt::format("{}/{}", name(), place));
}

std::unique_ptr<PlainStorage::Placed> PlainStorage::make_member(MemberSpec spec,
                                                                std::size_t place) {
    is_stacked_ |= std::holds_alternative<StoragePlace>(spec.place);
    return std::make_unique<Placed>(*this, std::move(spec), cookie_of(place));
}

PlainStorage::Placed* PlainStorage::find(const Member& member) const {
    for (const auto& placed : members_)
        if (&placed->member == &member) return placed.get();
    return adding_ != nullptr && &adding_->member == &member ? adding_ : nullptr;
}

std::uint64_t PlainStorage::instance() const {
    std::uint64_t instance = Storage::instance();
    if (is_stacked_)
        for (const auto& placed : members_) instance ^= placed->member.instance_change();
    return instance == 0 ? 1 : instance;
}

Outcome<> PlainStorage::start(const Overruling& overruling) {
    if (overruling.force || overruling.keep || overruling.clean || overruling.is_there)
        return refuse_as_no_mirror();
    CHECK(!is_started());
    TRY(algorithm_, around_.registry.create(settings_.algorithm, settings_.options));
    stopping_ = false;
    refusal_.clear();
    since_ = around_.world.clock.wall_now();
    for (const MemberSpec& spec : settings_.members)
        members_.push_back(make_member(spec, members_.size()));
    scope_.spawn(form());
    return {};
}

/// Opens all nodes at once; places them in their order when the last one is there.
async::Task<void> PlainStorage::form() {
    async::Scope opening;
    for (auto& placed : members_) opening.spawn(placed->member.open());
    co_await opening.join();
    if (stopping_) co_return;
    for (auto& placed : members_) {
        if (!placed->member.is_there()) co_return;
        if (const Outcome<> done = place(*placed); !done) {
            refusal_ = done.error().text;
            log::error("storage {}: {}", name(), refusal_);
            changes_.wake_all();
            co_return;
        }
    }
    become_formed();
    log::info("storage {}: running, {} sectors on {} nodes", name(), geometry().size.value(),
              members_.size());
}

Outcome<> PlainStorage::place(Placed& placed) {
    placed.node = std::make_unique<node::Node>(*placed.member.device(), placed.cookie,
                                               placed.member.spec().type, placed.member.size());
    const Outcome<> done = algorithm_->add_node(*placed.node);
    if (!done) placed.node.reset();
    return done;
}

const Member* PlainStorage::first_missing() const {
    for (const auto& placed : members_)
        if (!placed->member.is_there()) return &placed->member;
    return nullptr;
}

std::optional<Problem> PlainStorage::dead_end() const {
    if (!refusal_.empty()) return Problem{ErrorCode::invalid, refusal_};
    for (const auto& placed : members_)
        if (placed->member.is_hopeless())
            return Problem{ErrorCode::not_found, fmt::format("{}: {}", placed->member.spec().type,
                                                             placed->member.reason())};
    return std::nullopt;
}

std::string PlainStorage::obstacle() const {
    if (is_formed()) return {};
    if (!is_started()) return "it is stopped: start it with 'dst storage start " + name() + "'";
    if (!refusal_.empty()) return refusal_;
    const Member* const missing = first_missing();
    return missing != nullptr
               ? fmt::format("waits for {}: {}", missing->spec().type, missing->reason())
               : "its nodes are being placed";
}

async::Task<Outcome<>> PlainStorage::stop(io::TimePoint deadline) {
    stopping_ = true;
    std::vector<std::string> losses;
    {
        async::Scope closing;
        for (auto& placed : members_) closing.spawn(placed->member.close(deadline, losses));
        co_await closing.join();
    }
    changes_.wake_all();
    co_await scope_.join();
    // All of them were answered or failed; let them get out.
    co_await drained();
    if (is_formed()) log::info("storage {}: stopped", name());
    become_unformed();
    for (auto placed = members_.rbegin(); placed != members_.rend(); ++placed)
        if ((*placed)->node != nullptr) algorithm_->del_node(*(*placed)->node);
    algorithm_.reset();
    members_.clear();
    changes_.wake_all();
    if (losses.empty()) co_return Outcome<>{};
    log::error("storage {}: stopped, but {}", name(), fmt::join(losses, ", "));
    co_return refuse(ErrorCode::io_error, fmt::format("storage '{}' is stopped, but {}", name(),
                                                      fmt::join(losses, ", ")));
}

void PlainStorage::abandon() {
    for (auto& placed : members_) placed->member.abandon();
}

bool PlainStorage::is_all_connected() const {
    return is_formed() && std::ranges::all_of(members_, [](const auto& placed) {
               return placed->member.is_connected();
           });
}

std::size_t PlainStorage::requests_waiting() const {
    std::size_t waiting = 0;
    for (const auto& placed : members_) waiting += placed->member.requests_waiting();
    return waiting;
}

void PlainStorage::hurry() {
    if (!stopping_) return;
    for (auto& placed : members_) placed->member.hurry();
}

async::Task<Outcome<>> PlainStorage::add_node(MemberSpec spec, Adding adding,
                                              io::TimePoint deadline) {
    if (adding.is_witness || adding.force) co_return refuse_as_no_mirror();
    if (!is_formed())
        co_return refuse(ErrorCode::busy,
                         fmt::format("storage {} can't take a node now: {}", name(), obstacle()));
    if (adding.note) CO_TRY_VOID(adding.note());
    auto added = make_member(spec, members_.size());
    adding_ = added.get();
    Member& member = added->member;
    async::Scope opening;
    opening.spawn(member.open());
    while (!member.is_there() && !member.is_hopeless() && !stopping_ && !around_.ending) {
        if (!co_await io::wait_until(around_.world.clock, changes_, deadline)) break;
    }
    Outcome<> placed;
    if (stopping_ || around_.ending)
        placed = refuse(ErrorCode::cancelled, fmt::format("storage {} is being stopped", name()));
    else if (!member.is_there())
        placed = refuse(ErrorCode::not_found, fmt::format("node {} was not added: {}",
                                                          member.spec().type, member.reason()));
    else
        placed = place(*added);
    member.give_up();
    co_await opening.join();
    adding_ = nullptr;
    if (!placed) {
        std::vector<std::string> losses;  // none: it was never used
        co_await member.close(around_.world.clock.now(), losses);
        co_return placed;
    }
    members_.push_back(std::move(added));
    settings_.members.push_back(std::move(spec));
    log::info("storage {}: {} added, {} sectors now", name(), member.spec().type,
              geometry().size.value());
    changes_.wake_all();
    co_return placed;
}

void PlainStorage::member_changed(Member& /*member*/) { changes_.wake_all(); }

void PlainStorage::member_ready(Member& member) {
    if (Placed* const placed = find(member);
        placed != nullptr && placed->node != nullptr && is_formed())
        algorithm_->node_changed(*placed->node);
}

void PlainStorage::member_lost(Member& member) {
    if (Placed* const placed = find(member);
        !stopping_ && placed != nullptr && placed->node != nullptr)
        scope_.spawn(report_lost(*placed->node));
}

/// The seed's `error` callback: the algorithm may do something about a lost link.
async::Task<void> PlainStorage::report_lost(node::Node& node) {
    const auto recovery =
        co_await algorithm_->error(node, {ErrorCode::node_lost, "connection lost"});
    if (recovery == algorithm::Recovery::not_fixed)
        log::error("storage {}: {} is lost and {} can't do without it", name(), node.type(),
                   settings_.algorithm);
}

block::Geometry PlainStorage::geometry() const {
    return is_formed() ? algorithm_->geometry() : block::Geometry{};
}

// No coroutine itself: a request costs the algorithm's frame alone.
async::Task<Result<>> PlainStorage::perform(block::Request& request) {
    return algorithm_->remap(request);
}

/// What the nodes will be: of no size while nobody has looked.
std::vector<NodeStatus> PlainStorage::stopped_nodes() const {
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

StorageStatus PlainStorage::status() const {
    StorageStatus status{.name = name(),
                         .algorithm = settings_.algorithm,
                         .size = geometry().size,
                         .state = State::stopped,
                         .reason = {},
                         .since = since_,
                         .nodes = {}};
    std::size_t waiting = 0;
    const Member* lost = nullptr;
    for (const auto& placed : members_) {
        status.nodes.push_back(placed->status());
        waiting += placed->member.requests_waiting();
        status.since = std::max(status.since, status.nodes.back().since);
        if (lost == nullptr && !placed->member.is_connected()) lost = &placed->member;
    }
    if (!is_started()) {
        status.nodes = stopped_nodes();
        status.reason = "stopped; 'dst storage start " + name() + "' starts it";
    } else if (!is_formed()) {
        status.state = State::waiting;
        status.reason = obstacle();
    } else if (lost == nullptr) {
        status.state = State::running;
        status.reason = "all nodes are connected";
    } else {
        status.state = waiting > 0 ? State::holding : State::degraded;
        status.since = lost->since();
        status.reason = fmt::format("{}{}: {}; goes on when it is back", who_waits(waiting),
                                    lost->spec().type, lost->reason());
    }
    return status;
}

/// Each node has data that no other one has, so requests for it wait, and the storage is formed
/// when all of them are there.
std::vector<Loss> PlainStorage::losses() const {
    std::vector<Located> nodes;
    for (const auto& placed : members_)
        nodes.push_back({.cookie = placed->cookie,
                         .type = placed->member.spec().type,
                         .host = host_of(placed->member.spec())});
    std::vector<Loss> losses = what_can_be_lost(nodes);
    for (Loss& loss : losses) {
        std::string names;
        for (const auto& placed : members_) {
            if (std::ranges::find(loss.nodes, placed->cookie) == loss.nodes.end()) continue;
            if (loss.kind != Loss::Kind::link) loss.at_risk += placed->node->size();
            names += (names.empty() ? "" : ", ") + placed->member.spec().type;
        }
        loss.goes_on = loss.nodes.empty() && !takes_head(loss);
        loss.starts = loss.nodes.empty();
        if (!loss.starts) loss.start_reason = "waits for " + names;
        if (takes_head(loss))
            loss.reason = "nobody answers: the head is gone";
        else if (!loss.goes_on)
            loss.reason = fmt::format("requests for its part wait{}, others go on",
                                      settings_.hold ? ", then fail," : "");
        const Member* const missing = first_missing();
        loss.starts_after = missing == nullptr;
        if (missing != nullptr)
            loss.start_after_reason =
                fmt::format("waits for {}: {}", missing->spec().type, missing->reason());
    }
    return losses;
}

std::vector<NodeMeasures> PlainStorage::node_measures() const {
    std::vector<NodeMeasures> all;
    for (const auto& placed : members_) all.push_back(placed->member.measures(placed->cookie));
    return all;
}

}  // namespace dst::storage
