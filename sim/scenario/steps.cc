#include "sim/scenario/steps.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>

namespace dst::sim {
namespace {

std::string_view trimmed(std::string_view text) {
    while (text.starts_with(' ')) text.remove_prefix(1);
    while (text.ends_with(' ')) text.remove_suffix(1);
    return text;
}

/// The text before and behind the first `separator`; nothing if there is none.
std::optional<std::array<std::string_view, 2>> cut_at(std::string_view text,
                                                      std::string_view separator) {
    const std::size_t at = text.find(separator);
    if (at == std::string_view::npos) return std::nullopt;
    return std::array{trimmed(text.substr(0, at)), trimmed(text.substr(at + separator.size()))};
}

/// What stands behind `words`; nothing if the text begins otherwise.
std::optional<std::string_view> behind(std::string_view text, std::string_view words) {
    if (!text.starts_with(words)) return std::nullopt;
    const std::string_view rest = text.substr(words.size());
    if (!rest.empty() && !rest.starts_with(' ')) return std::nullopt;
    return trimmed(rest);
}

Outcome<std::string> process(const Scenario& scenario, std::string_view name) {
    const bool is_client =
        std::ranges::find(scenario.clients, name, &ClientSpec::name) != scenario.clients.end();
    if (scenario.find_daemon(name) == nullptr && !is_client)
        return refuse(fmt::format("there is no daemon or client '{}'", name));
    return std::string(name);
}

Outcome<std::string> host(const Scenario& scenario, std::string_view name) {
    if (scenario.find_host(name) == nullptr)
        return refuse(fmt::format("there is no host '{}'", name));
    return std::string(name);
}

/// The daemon that has the disk.
Outcome<std::string> user(const Scenario& scenario, const TargetName& disk) {
    for (const DaemonSpec& daemon : scenario.daemons) {
        if (daemon.host != disk.host) continue;
        for (const control::ExportSpec& shown : daemon.config.exports)
            if (shown.device == control::DeviceSpec(control::PathDevice{disk.disk}))
                return daemon.name;
    }
    return refuse(fmt::format("no daemon exports {} of {}", disk.disk, disk.host));
}

Outcome<TargetName> parse_disk(const Scenario& scenario, std::string_view text) {
    const auto parts = cut_at(text, ":");
    if (!parts) return refuse(fmt::format("'{}' is no disk: write HOST:PATH", text));
    TargetName target;
    TRY(target.host, host(scenario, (*parts)[0]));
    target.disk = (*parts)[1];
    const auto& disks = scenario.find_host(target.host)->disks;
    if (std::ranges::find(disks, target.disk, &DiskSpec::path) == disks.end())
        return refuse(fmt::format("{} has no disk {}", target.host, target.disk));
    return target;
}

}  // namespace

Outcome<TargetName> parse_target(const Scenario& scenario, Fault fault, std::string_view text) {
    TargetName target;
    switch (target_kind(fault)) {
        case TargetKind::process: {
            TRY(target.process, process(scenario, text));
            break;
        }
        case TargetKind::host: {
            TRY(target.host, host(scenario, text));
            break;
        }
        case TargetKind::link: {
            const auto ends = cut_at(text, " - ");
            if (!ends) return refuse(fmt::format("'{}' is no link: write HOST - HOST", text));
            TRY(target.host, host(scenario, (*ends)[0]));
            TRY(target.other, host(scenario, (*ends)[1]));
            if (target.host == target.other)
                return refuse(fmt::format("'{}' has one end only", text));
            break;
        }
        case TargetKind::disk:
            return parse_disk(scenario, text);
        case TargetKind::used_disk: {
            TRY(target, parse_disk(scenario, text));
            TRY(target.process, user(scenario, target));
            break;
        }
    }
    return target;
}

namespace {

using Command = decltype(TellStep::command);

/// Behind the verb: STORAGE NODE, or STORAGE NODE by NODE.
Outcome<Command> parse_node_command(NodeCommand::Verb verb, std::string_view words) {
    NodeCommand command{.verb = verb, .storage = {}, .node = {}};
    auto parts = cut_at(words, " ");
    if (!parts) return refuse("it needs a storage and a node");
    command.storage = (*parts)[0];
    std::string_view node = (*parts)[1];
    if (verb == NodeCommand::Verb::replace) {
        parts = cut_at(node, " by ");
        if (!parts) return refuse("node replace needs two nodes: write STORAGE NODE by NODE");
        node = (*parts)[0];
        TRY(command.by, control::parse_node((*parts)[1]));
    }
    TRY(const auto parsed, control::parse_node(node));
    command.node = to_string(parsed);
    return command;
}

Outcome<Command> parse_command(const Scenario& scenario, std::string_view words) {
    if (const auto rest = behind(words, "node add")) {
        const auto parts = cut_at(*rest, " ");
        if (!parts) return refuse("node add needs a storage and a node");
        TRY(auto node, control::parse_node((*parts)[1]));
        return NodeAdd{std::string((*parts)[0]), std::move(node)};
    }
    constexpr std::array<std::pair<std::string_view, NodeCommand::Verb>, 3> kNodeVerbs{
        {{"node remove", NodeCommand::Verb::remove},
         {"node replace", NodeCommand::Verb::replace},
         {"node mark-dirty", NodeCommand::Verb::mark_dirty}}};
    for (const auto& [verb_words, verb] : kNodeVerbs)
        if (const auto rest = behind(words, verb_words)) return parse_node_command(verb, *rest);
    if (const auto name = behind(words, "storage force"))
        return StorageOverrule{.storage = std::string(*name)};
    if (const auto rest = behind(words, "storage keep")) {
        const auto parts = cut_at(*rest, " ");
        if (!parts) return refuse("storage keep needs a storage and the disk of a node");
        TRY(auto side, parse_disk(scenario, (*parts)[1]));
        return StorageOverrule{std::string((*parts)[0]), std::move(side)};
    }
    using Verb = StorageCommand::Verb;
    constexpr std::array<std::pair<std::string_view, Verb>, 6> kVerbs{
        {{"storage start", Verb::start},
         {"storage stop", Verb::stop},
         {"storage remove", Verb::remove},
         {"storage grow", Verb::grow},
         {"storage verify", Verb::verify},
         {"storage repair", Verb::repair}}};
    for (const auto& [verb_words, verb] : kVerbs)
        if (const auto name = behind(words, verb_words))
            return StorageCommand{verb, std::string(*name)};
    if (const auto rest = behind(words, "export add")) {
        const auto parts = cut_at(*rest, " ");
        if (!parts) return refuse("export add needs a name and a device");
        ExportAdd added;
        added.spec.name = (*parts)[0];
        TRY(added.spec.device, control::parse_device((*parts)[1]));
        return added;
    }
    if (const auto name = behind(words, "export remove")) return ExportRemove{std::string(*name)};
    return refuse(fmt::format("'{}' is no command of here (scenario/steps.h)", words));
}

Outcome<Step> parse_strike(const Scenario& scenario, std::string_view sentence) {
    std::optional<Duration> length;
    if (const std::size_t at = sentence.rfind(" for "); at != std::string_view::npos) {
        TRY(length, control::parse_duration(trimmed(sentence.substr(at + 5))));
        sentence = sentence.substr(0, at);
    }
    // The longest name that fits: "slow disk" begins as "slow link" does.
    std::optional<Fault> fault;
    for (const Fault each : all_faults())
        if (behind(sentence, to_string(each)) &&
            (!fault || to_string(each).size() > to_string(*fault).size()))
            fault = each;
    if (!fault) return refuse(fmt::format("'{}' begins with no fault, start or tell", sentence));
    TRY(const auto target, parse_target(scenario, *fault, *behind(sentence, to_string(*fault))));
    return StrikeStep{*fault, target, length};
}

}  // namespace

Outcome<Step> parse_step(const Scenario& scenario, std::string_view sentence) {
    if (const auto name = behind(sentence, "start")) {
        TRY(auto started, process(scenario, *name));
        return StartStep{std::move(started)};
    }
    if (const auto rest = behind(sentence, "grow")) {
        const auto parts = cut_at(*rest, " to ");
        if (!parts) return refuse("grow needs a disk and a size: write grow HOST:PATH to SIZE");
        GrowStep grow;
        TRY(grow.disk, parse_disk(scenario, (*parts)[0]));
        TRY(const ByteCount size, control::parse_size((*parts)[1]));
        grow.size = sectors_floor(size);
        return grow;
    }
    if (const auto rest = behind(sentence, "tell")) {
        const auto parts = cut_at(*rest, ":");
        if (!parts || scenario.find_daemon((*parts)[0]) == nullptr)
            return refuse(
                fmt::format("'{}' tells no daemon: write tell DAEMON: COMMAND", sentence));
        TRY(auto command, parse_command(scenario, (*parts)[1]));
        return TellStep{std::string((*parts)[0]), std::string((*parts)[1]), std::move(command)};
    }
    return parse_strike(scenario, sentence);
}

}  // namespace dst::sim
