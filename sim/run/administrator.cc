#include "sim/run/administrator.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "control/engine.h"
#include "sim/daemon.h"
#include "sim/scenario/route.h"

namespace dst::sim {
namespace {

using namespace std::chrono_literals;
using control::NodeSpec;
using control::NodeStatus;
using control::StorageState;
using control::StorageStatus;

constexpr io::Duration kLookPause = 20ms;
/// When it is calm: what takes its time may take it.
constexpr io::Duration kMendPause = 2s;
/// So many copies stay, if he can help it.
constexpr std::ptrdiff_t kCopiesMin = 2;

/// Else it is a place of the configuration's that is none.
bool is_node(const NodeStatus& node) {
    return node.cookie.find_first_not_of('0') != std::string::npos;
}

bool has_flag(const NodeStatus& node, std::string_view flag) {
    return std::ranges::find(node.flags, flag) != node.flags.end();
}
bool is_witness(const NodeStatus& node) { return has_flag(node, "witness"); }

const NodeStatus* find_type(const StorageStatus& status, const NodeSpec& place) {
    const auto at = std::ranges::find(status.nodes, to_string(place), &NodeStatus::type);
    return at == status.nodes.end() ? nullptr : &*at;
}
const NodeStatus* find_cookie(const StorageStatus& status, const std::string& cookie) {
    const auto at = std::ranges::find(status.nodes, cookie, &NodeStatus::cookie);
    return at == status.nodes.end() ? nullptr : &*at;
}

bool is_formed(const StorageStatus& status) {
    return status.state == StorageState::running || status.state == StorageState::degraded ||
           status.state == StorageState::holding;
}

/// Somebody else has all that this one lacks, and can be had.
bool has_another_source(const StorageStatus& status, const NodeStatus& node) {
    return std::ranges::any_of(status.nodes, [&](const NodeStatus& other) {
        return other.cookie != node.cookie && other.in_sync && other.connected &&
               !is_witness(other);
    });
}

}  // namespace

/// A command is under way, until it is answered or its daemon has ended.
class Administrator::Busy {
  public:
    explicit Busy(Administrator& administrator) : administrator_(administrator) {}
    ~Busy() {
        administrator_.is_busy_ = false;
        administrator_.next_at_ =
            administrator_.stage_.world().now() +
            (administrator_.is_calm_
                 ? kMendPause
                 : administrator_.stage_.world().random().up_to(administrator_.spec_.pause));
    }
    Busy(const Busy&) = delete;
    Busy& operator=(const Busy&) = delete;

  private:
    Administrator& administrator_;
};

Administrator::Administrator(Stage& stage)
    : stage_(stage), spec_(stage.scenario().administrator), left_(spec_.commands) {
    if (left_ == 0) return;
    const auto [daemon, storage] = split_at(spec_.at);
    storage_ = storage;
    process_ = stage.find_process(daemon);
    for (Mirrored& mirror : find_mirrors(stage))
        if (mirror.is_changed_at_run_time) mirror_ = std::move(mirror);
    const auto& configured = *stage.scenario().find_daemon(daemon)->config.find_storage(storage_);
    places_ = configured.nodes;
    places_.insert(places_.end(), spec_.spares.begin(), spec_.spares.end());
}

void Administrator::begin() {
    if (left_ == 0) return;
    next_at_ = stage_.world().now() + stage_.world().random().up_to(spec_.pause);
    look();
}

void Administrator::calm() {
    is_calm_ = true;
    left_ = 0;
    next_at_ = stage_.world().now() + kMendPause;
}

void Administrator::look() {
    if (!is_busy_ && stage_.world().now() >= next_at_) give();
    stage_.world().after(kLookPause, [this] { look(); });
}

/// A daemon that is down or paused is told later.
void Administrator::give() {
    if (!is_calm_ && left_ == 0) return;
    process_->call([&](Program& program) {
        auto& head = dynamic_cast<DaemonProgram&>(program);
        const auto status = head.daemon().engine().report(storage_);
        if (!status) return;
        auto order = is_calm_ ? mend(*status) : draw(*status);
        if (!order) return;
        is_busy_ = true;
        if (!is_calm_) --left_;
        head.command(
            [&](control::Daemon& daemon) { return carry_out(daemon, *std::move(order), *this); });
    });
}

// What he wants ---------------------------------------------------------------------------------

std::vector<NodeSpec> Administrator::free_places(const StorageStatus& status) const {
    std::vector<NodeSpec> free;
    for (const NodeSpec& place : places_) {
        const NodeStatus* const there = find_type(status, place);
        if (there == nullptr || !is_node(*there)) free.push_back(place);
    }
    return free;
}

std::optional<Administrator::Order> Administrator::draw(const StorageStatus& status) {
    Random& random = stage_.world().random();
    const auto free = free_places(status);
    std::vector<NodeStatus> nodes;
    for (const NodeStatus& node : status.nodes)
        if (is_node(node)) nodes.push_back(node);
    const auto copies =
        std::ranges::count_if(nodes, [](const NodeStatus& node) { return !is_witness(node); });

    constexpr std::array kVerbs{Verb::add,    Verb::add,    Verb::add,     Verb::remove,
                                Verb::remove, Verb::remove, Verb::replace, Verb::replace,
                                Verb::dirty,  Verb::dirty,  Verb::clean,   Verb::verify};
    Order order{.verb = kVerbs[random.below(kVerbs.size())], .place = {}};
    if (order.verb == Verb::add || order.verb == Verb::replace) {
        if (free.empty()) return std::nullopt;
        order.place = free[random.below(free.size())];
        order.is_witness = random.one_in(6);
        order.force = random.one_in(3);
    }
    if (order.verb == Verb::verify) order.force = random.one_in(2);
    if (order.verb == Verb::add || order.verb == Verb::verify) return order;
    if (nodes.empty()) return std::nullopt;
    order.node = nodes[random.below(nodes.size())];
    switch (order.verb) {
        case Verb::remove:
            if (!is_witness(order.node) && copies <= kCopiesMin) return std::nullopt;
            break;
        case Verb::replace:
            // Who is in sync is not replaced, so mostly he does not ask for that.
            for (const NodeStatus& node : nodes)
                if (!node.in_sync && !random.one_in(4)) order.node = node;
            break;
        case Verb::clean:
            // Where nobody else could be had it would be taken at its word, and it is not true.
            if (!is_formed(status) || !has_another_source(status, order.node)) return std::nullopt;
            break;
        default:
            break;
    }
    return order;
}

/// Nothing is wrong with machines and links any more, so what is wrong is what is written down.
std::optional<Administrator::Order> Administrator::mend(const StorageStatus& status) {
    if (!is_formed(status)) return std::nullopt;
    for (const NodeStatus& node : status.nodes) {
        const auto place = std::ranges::find(places_, node.type,
                                             [](const NodeSpec& each) { return to_string(each); });
        // An age that changes the votes, and was never in force, is on it alone: counting says
        // nothing of that, and the reason says what to do.
        if (is_node(node) && !node.in_sync &&
            node.reason.contains("'dst node remove' and 'dst node add --force'"))
            return Order{.verb = Verb::remove, .node = node, .place = {}};
        // One that came half in: its superblock was being written for the first time.
        if (is_node(node) && !node.in_sync && node.reason.contains("dst node replace") &&
            place != places_.end())
            return Order{.verb = Verb::replace, .node = node, .place = *place, .force = true};
        // A place that is no node: one that came half in, or went half out.
        if (!is_node(node) && node.connected) {
            if (place == places_.end()) continue;
            return Order{
                .verb = Verb::add, .place = *place, .is_witness = is_witness(node), .force = true};
        }
        // A node that is written down nowhere.
        if (is_node(node) && !is_written_down(node.type))
            return Order{.verb = Verb::remove, .node = node, .place = {}};
    }
    return std::nullopt;
}

// How it is done --------------------------------------------------------------------------------

/// The places of nodes that a head would find written down if it was started now.
std::vector<NodeSpec> Administrator::written_down() const { return listed_places(*mirror_); }

bool Administrator::is_written_down(const std::string& type) const {
    return std::ranges::any_of(written_down(),
                               [&](const NodeSpec& node) { return to_string(node) == type; });
}

async::Task<Outcome<>> Administrator::perform(control::Daemon& daemon, const Order& order) const {
    const control::Adding adding{.is_witness = order.is_witness, .force = order.force};
    switch (order.verb) {
        case Verb::add:
            return daemon.node_add(storage_, *order.place, adding);
        case Verb::remove:
            return daemon.node_remove(storage_, order.node.cookie, false);
        case Verb::replace:
            return daemon.node_replace(storage_, order.node.cookie, *order.place,
                                       {.force = order.force});
        case Verb::dirty:
            return daemon.node_mark(storage_, order.node.cookie, control::NodeMark::dirty, false);
        case Verb::clean:
            return daemon.node_mark(storage_, order.node.cookie, control::NodeMark::clean, false);
        case Verb::verify:
            break;
    }
    return daemon.storage_verify(storage_, order.force);
}

/// Takes the order by value: who gave it is gone.
async::Task<void> Administrator::carry_out(control::Daemon& daemon, Order order,
                                           Administrator& administrator) {
    const Busy busy(administrator);
    World& world = administrator.stage_.world();
    const std::string what = administrator.text_of(order);
    const std::vector<NodeSpec> before = administrator.written_down();
    world.trace("administrator", "{}", what);
    const Outcome<> done = co_await administrator.perform(daemon, order);
    world.trace("administrator", "{}: {}", what, done ? "done" : done.error().text);
    if (!done) {
        if (done.error().text.empty())
            administrator.found(fmt::format("'{}' is refused, and nobody says why", what));
        // Half of it is done, and noted.
        const bool is_out = order.verb == Verb::replace &&
                            done.error().text.contains("though the other one was removed");
        if (is_out ? administrator.is_written_down(order.node.type)
                   : administrator.written_down() != before)
            administrator.found(
                fmt::format("'{}' is refused ({}), and what is written down is not what is so",
                            what, done.error().text));
        co_return;
    }
    if (const auto status = daemon.engine().report(administrator.storage_))
        administrator.check(*status, order);
}

/// What was done is so.
void Administrator::check(const StorageStatus& status, const Order& order) {
    const std::string what = text_of(order);
    if (order.place) {
        const NodeStatus* const there = find_type(status, *order.place);
        if (is_formed(status) && (there == nullptr || !is_node(*there)))
            found(fmt::format("'{}' is done, and it is no node", what));
        if (!is_written_down(to_string(*order.place)))
            found(fmt::format("'{}' is done, and a restart would forget it", what));
    }
    const NodeStatus* const node = find_cookie(status, order.node.cookie);
    switch (order.verb) {
        case Verb::remove:
        case Verb::replace:
            // Another disk in its place becomes the same node.
            if (order.place && to_string(*order.place) == order.node.type) break;
            if (node != nullptr) found(fmt::format("'{}' is done, and it is a node still", what));
            if (is_written_down(order.node.type))
                found(fmt::format("'{}' is done, and a restart would look for it", what));
            break;
        case Verb::dirty:
            if (node != nullptr && node->in_sync)
                found(fmt::format("'{}' is done, and it is in sync", what));
            break;
        case Verb::clean:
            // Who has everything may be about to be named: nothing is changed by that.
            if (!order.node.in_sync && order.node.stale.value() > 0)
                found(fmt::format("'{}' is done, although it lacked what others had", what));
            break;
        case Verb::add:
        case Verb::verify:
            break;
    }
}

void Administrator::found(std::string text) {
    findings_.push_back(
        {.check = "command", .text = std::move(text), .when = stage_.world().now(), .story = {}});
}

std::string Administrator::text_of(const Order& order) const {
    const std::string place = order.place ? to_string(*order.place) : "";
    const std::string node = fmt::format("{} ({})", order.node.type, order.node.cookie);
    const std::string_view force = order.force ? " --force" : "";
    switch (order.verb) {
        case Verb::add:
            return fmt::format("node add {} {}{}{}", storage_, place,
                               order.is_witness ? " --witness" : "", force);
        case Verb::remove:
            return fmt::format("node remove {} {}", storage_, node);
        case Verb::replace:
            return fmt::format("node replace {} {} {}{}", storage_, node, place, force);
        case Verb::dirty:
            return fmt::format("node mark-dirty {} {}", storage_, node);
        case Verb::clean:
            return fmt::format("node mark-clean {} {}", storage_, node);
        case Verb::verify:
            break;
    }
    return fmt::format("storage verify {}{}", storage_, order.force ? " --repair" : "");
}

}  // namespace dst::sim
