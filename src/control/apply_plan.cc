#include "control/apply_plan.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <nlohmann/json.hpp>

#include "control/config_diff.h"
#include "control/config_value.h"

namespace dst::control {
namespace {

using Json = nlohmann::ordered_json;
using Change = Difference::Change;
using Kind = Difference::Kind;

/// Keys of a storage that are changed by themselves; all others are changed by making the storage
/// known anew.
constexpr std::array<std::string_view, 4> kLiveKeys = {"nodes", "witnesses", "resync_size",
                                                       "resync_timeout"};
/// Says what a new storage begins with, and means nothing for one that is there.
constexpr std::string_view kOnlyWhenMade = "init";

class Planner {
  public:
    Planner(const Config& now, const Config& wanted, bool prune)
        : now_(now), wanted_(wanted), prune_(prune) {}

    Outcome<Plan> make() {
        std::vector<Difference> differences = compare(now_, wanted_);
        for (const Difference& difference : differences) note_daemon(difference);
        each(differences, Kind::algorithm, Change::added,
             [&](const Difference& of) { load(of.name); });
        // What is gone, or is made anew, from the top down.
        for (const Difference& of : differences)
            if (of.kind == Kind::storage && of.change == Change::changed) TRY_VOID(judge(of));
        each(differences, Kind::share, Change::removed, [&](const Difference& of) {
            if (prune_) remove_export(of.name);
        });
        each(differences, Kind::share, Change::changed,
             [&](const Difference& of) { remove_export(of.name); });
        for (const ExportSpec& shown : now_.exports)
            if (is_remade(storage_of(shown.device))) remove_export(shown.name);
        if (prune_) TRY_VOID(remove_storages(differences));
        for (const std::string& name : remade_) remove_storage(name);
        // What comes, from the bottom up: a storage stands behind those that it uses.
        for (const StorageSpec* const spec : in_order_of_need(wanted_)) {
            if (now_.find_storage(spec->name) == nullptr)
                create(*spec, false);
            else if (is_remade(spec->name))
                create(*spec, true);
        }
        for (const Difference& of : differences)
            if (of.kind == Kind::storage && of.change == Change::changed && !is_remade(of.name))
                TRY_VOID(change_live(of));
        for (const ExportSpec& shown : wanted_.exports)
            if (now_.find_export(shown.name) == nullptr || is_removed(shown.name)) add(shown);
        for (const ExportSpec& shown : now_.exports)  // not named, but shows a storage made anew
            if (!prune_ && wanted_.find_export(shown.name) == nullptr && is_removed(shown.name))
                add(shown);
        each(differences, Kind::algorithm, Change::removed, [&](const Difference& of) {
            if (prune_)
                plan_.remarks.push_back(fmt::format(
                    "algorithm '{}' stays loaded: 'dst algorithm unload NAME' unloads it",
                    of.name));
        });
        return std::move(plan_);
    }

  private:
    template <typename Do>
    static void each(const std::vector<Difference>& differences, Kind kind, Change change,
                     Do what) {
        for (const Difference& difference : differences)
            if (difference.kind == kind && difference.change == change) what(difference);
    }
    static std::string storage_of(const DeviceSpec& device) {
        const auto* storage = std::get_if<StorageDevice>(&device);
        return storage == nullptr ? std::string() : storage->name;
    }
    static bool uses(const StorageSpec& spec, std::string_view name) {
        return std::ranges::any_of(spec.nodes, [&](const NodeSpec& node) {
            const auto* local = std::get_if<LocalNode>(&node.place);
            return local != nullptr && storage_of(local->device) == name;
        });
    }
    static std::vector<const StorageSpec*> in_order_of_need(const Config& config) {
        std::vector<const StorageSpec*> order;
        // `check` has seen to it that none goes round in a circle.
        while (order.size() < config.storages.size()) {
            const std::size_t before = order.size();
            for (const StorageSpec& spec : config.storages) {
                const auto is_there = [&](const StorageSpec& other) {
                    return std::ranges::find(order, &other) != order.end();
                };
                if (is_there(spec)) continue;
                const bool is_next =
                    std::ranges::all_of(config.storages, [&](const StorageSpec& below) {
                        return !uses(spec, below.name) || is_there(below);
                    });
                if (is_next) order.push_back(&spec);
            }
            if (order.size() == before) break;
        }
        return order;
    }
    bool is_remade(std::string_view name) const {
        return std::ranges::find(remade_, name) != remade_.end();
    }
    bool is_removed(std::string_view name) const {
        return std::ranges::find(removed_exports_, name) != removed_exports_.end();
    }
    void step(std::string text, std::string method, std::string path, std::string body = {},
              bool interrupts = false) {
        plan_.steps.push_back({.text = std::move(text),
                               .method = std::move(method),
                               .path = std::move(path),
                               .body = std::move(body),
                               .interrupts = interrupts});
    }

    /// Settings of the daemon take a start with another file. Those that the file leaves at their
    /// defaults it says nothing about.
    void note_daemon(const Difference& difference) {
        if (difference.kind != Kind::daemon) return;
        for (const KeyChange& key : difference.keys)
            if (!key.to.empty())
                plan_.remarks.push_back(
                    fmt::format("{} is {} and would be {}: the daemon reads it at its start alone",
                                key.key, key.from.empty() ? "at its default" : key.from, key.to));
    }
    void load(const std::string& file) {
        step(fmt::format("load algorithm {}", file), "POST", "/v1/algorithms",
             format_json(Value(Value::Table{{"file", Value(file)}})));
    }
    void remove_export(const std::string& name) {
        if (is_removed(name)) return;
        removed_exports_.push_back(name);
        step(fmt::format("remove export '{}'", name), "DELETE", "/v1/exports/" + name, "", true);
    }
    void add(const ExportSpec& spec) {
        step(fmt::format("add export '{}' of {}", spec.name, to_string(spec.device)), "POST",
             "/v1/exports", control::to_json(spec));
    }
    void remove_storage(const std::string& name) {
        step(fmt::format("stop and forget storage '{}'; its nodes keep their data", name), "DELETE",
             "/v1/storages/" + name, "", true);
    }
    Outcome<> remove_storages(const std::vector<Difference>& differences) {
        // Those that use others go first.
        const auto order = in_order_of_need(now_);
        for (auto at = order.rbegin(); at != order.rend(); ++at) {
            const bool is_gone = std::ranges::any_of(differences, [&](const Difference& of) {
                return of.kind == Kind::storage && of.change == Change::removed &&
                       of.name == (*at)->name;
            });
            if (is_gone) remove_storage((*at)->name);
        }
        return {};
    }
    void create(const StorageSpec& spec, bool is_there) {
        const bool is_assembled = is_there && spec.algorithm == kMirror;
        step(fmt::format("{} storage '{}', {} of {} nodes", is_assembled ? "assemble" : "create",
                         spec.name, spec.algorithm, spec.nodes.size()),
             "POST", is_assembled ? "/v1/assemblies" : "/v1/storages", control::to_json(spec));
    }

    /// Whether a storage has to be made known anew, and whether it can be.
    Outcome<> judge(const Difference& of) {
        std::string keys;
        for (const KeyChange& key : of.keys)
            if (std::ranges::find(kLiveKeys, key.key) == kLiveKeys.end() &&
                key.key != kOnlyWhenMade)
                keys += (keys.empty() ? "" : ", ") + key.key;
        if (keys.empty()) return {};
        if (of.find("algorithm") != nullptr)
            return refuse(
                fmt::format("storage '{}' can't get another algorithm: its data lies as "
                            "the one has put it; make another storage and copy",
                            of.name));
        for (const StorageSpec& other : now_.storages)
            if (uses(other, of.name))
                return refuse(
                    fmt::format("{} of storage '{}' can't be changed while it is a node "
                                "of storage '{}': remove that one first",
                                keys, of.name, other.name));
        const bool also_nodes = of.find("nodes") != nullptr || of.find("witnesses") != nullptr;
        if (also_nodes)
            return refuse(
                fmt::format("storage '{}' gets other nodes and another {}: apply the "
                            "one, then the other",
                            of.name, keys));
        remade_.push_back(of.name);
        return {};
    }

    Outcome<> change_live(const Difference& of) {
        const StorageSpec& from = *now_.find_storage(of.name);
        const StorageSpec& to = *wanted_.find_storage(of.name);
        const std::size_t steps_before = plan_.steps.size();
        add_nodes(of.name, from.nodes, to.nodes, false);
        add_nodes(of.name, from.witnesses, to.witnesses, true);
        if (from.algorithm != kMirror) {
            const bool is_longer =
                from.nodes.size() <= to.nodes.size() &&
                std::equal(from.nodes.begin(), from.nodes.end(), to.nodes.begin());
            if (!is_longer)
                return refuse(
                    fmt::format("storage '{}' is {}: nodes can be added behind the ones "
                                "there are, and not taken out or moved",
                                of.name, from.algorithm));
        } else {
            // The redundancy is there before anything is taken out.
            if (plan_.steps.size() > steps_before) {
                plan_.steps.push_back(
                    {.text = fmt::format("wait until storage '{}' is in sync", of.name),
                     .method = {},
                     .path = {},
                     .body = {},
                     .waits_for = of.name});
            }
            remove_nodes(of.name, from.nodes, to.nodes);
            remove_nodes(of.name, from.witnesses, to.witnesses);
        }
        change_resync(of, to);
        return {};
    }
    void add_nodes(const std::string& storage, const std::vector<NodeSpec>& from,
                   const std::vector<NodeSpec>& to, bool is_witness) {
        for (const NodeSpec& node : to) {
            if (std::ranges::find(from, node) != from.end()) continue;
            step(fmt::format("add {} {} to storage '{}'", is_witness ? "witness" : "node",
                             to_string(node), storage),
                 "POST", "/v1/storages/" + storage + "/nodes",
                 fmt::format(R"({{"node":{},"witness":{}}})", control::to_json(node), is_witness));
        }
    }
    void remove_nodes(const std::string& storage, const std::vector<NodeSpec>& from,
                      const std::vector<NodeSpec>& to) {
        for (const NodeSpec& node : from) {
            if (std::ranges::find(to, node) != to.end()) continue;
            const Value::Table body = {{"type", Value(to_string(node))}};
            step(fmt::format("remove {} from storage '{}'; it keeps its data", to_string(node),
                             storage),
                 "DELETE", "/v1/storages/" + storage + "/nodes", format_json(Value(body)));
        }
    }
    void change_resync(const Difference& of, const StorageSpec& to) {
        Value::Table body;
        std::string text;
        const auto change = [&](std::string_view key, std::string_view name, std::int64_t value,
                                const std::string& shown) {
            if (of.find(key) == nullptr) return;
            body.push_back({std::string(name), Value(value)});
            text += fmt::format("{}{} = {}", text.empty() ? "" : ", ", key, shown);
        };
        change("resync_size", "size",
               static_cast<std::int64_t>(sectors_floor(to.resync_size).value()),
               to_string(to.resync_size));
        change("resync_timeout", "timeout",
               std::chrono::duration_cast<std::chrono::milliseconds>(to.resync_timeout).count(),
               to_string(to.resync_timeout));
        if (body.empty()) return;
        step(fmt::format("set {} of storage '{}'", text, of.name), "POST",
             "/v1/storages/" + of.name + "/resync", format_json(Value(std::move(body))));
    }

    const Config& now_;
    const Config& wanted_;
    const bool prune_;
    std::vector<std::string> remade_;
    std::vector<std::string> removed_exports_;
    Plan plan_;
};

}  // namespace

Outcome<Plan> plan_of(const Config& now, const Config& wanted, bool prune) {
    return Planner(now, wanted, prune).make();
}

std::string to_text(const Plan& plan, TableStyle style) {
    std::string out;
    std::size_t number = 0;
    for (const Step& step : plan.steps) {
        std::string line = fmt::format("{}. {}", ++number, harmless(step.text));
        if (step.interrupts) line += " (interrupts who uses it)";
        if (style.width > 0)
            line = fmt::format("{}", fmt::join(wrapped(line, style.width - 3), "\n   "));
        out += style.colour && step.interrupts ? "\x1b[33m" + line + "\x1b[0m\n" : line + "\n";
    }
    for (const std::string& remark : plan.remarks) out += "note: " + harmless(remark) + "\n";
    return out;
}

std::string to_json(const Plan& plan) {
    Json steps = Json::array();
    for (const Step& step : plan.steps)
        steps.push_back({{"text", step.text},
                         {"interrupts", step.interrupts},
                         {"method", step.method},
                         {"path", step.path},
                         {"body", step.body},
                         {"waits_for", step.waits_for}});
    return Json{{"steps", std::move(steps)}, {"remarks", plan.remarks}}.dump(
        -1, ' ', false, Json::error_handler_t::replace);
}

Outcome<Plan> parse_plan(std::string_view text) {
    try {
        const Json json = Json::parse(text);
        Plan plan;
        plan.remarks = json.at("remarks").get<std::vector<std::string>>();
        for (const Json& step : json.at("steps"))
            plan.steps.push_back({.text = step.at("text"),
                                  .method = step.at("method"),
                                  .path = step.at("path"),
                                  .body = step.at("body"),
                                  .waits_for = step.at("waits_for"),
                                  .interrupts = step.at("interrupts")});
        return plan;
    } catch (const std::exception&) {
        return refuse(ErrorCode::corrupt,
                      "the answer is no plan; use a dst of the daemon's version");
    }
}

}  // namespace dst::control
