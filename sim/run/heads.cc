#include "sim/run/heads.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "base/check.h"
#include "sim/daemon.h"

namespace dst::sim {

void Heads::add(Process& process, std::string export_name) {
    if (std::ranges::find(heads_, &process, &Head::process) == heads_.end())
        heads_.push_back(
            {.process = &process, .export_name = std::move(export_name), .clients = {}});
}

void Heads::add_client(const Process& process, std::string_view client) {
    const auto head = std::ranges::find(heads_, &process, &Head::process);
    CHECK(head != heads_.end());
    head->clients.push_back(client);
}

const Heads::Head& Heads::head_of(std::string_view client) const {
    const auto head = std::ranges::find_if(heads_, [&](const Head& each) {
        return std::ranges::find(each.clients, client) != each.clients.end();
    });
    CHECK(head != heads_.end());
    return *head;
}

std::uint64_t Heads::reign_of(const Head& head) {
    // It may answer before all of it has started, and while it stops.
    if (!head.process->is_running()) return 0;
    const block::Device* const device =
        head.process->program_as<DaemonProgram>().usable(head.export_name);
    return device == nullptr ? 0 : device->instance();
}

std::vector<Process*> Heads::others_serving(std::string_view client) const {
    std::vector<Process*> others;
    for (const Head& head : heads_)
        if (head.process != head_of(client).process && is_serving(head))
            others.push_back(head.process);
    return others;
}

void Heads::look() {
    for (Head& head : heads_) {
        const std::uint64_t reign = reign_of(head);
        if (reign == 0 || reign == head.reign) continue;
        head.reign = reign;
        holder_ = head.process;
        since_ = history_.take_over(fmt::format("{} forms it", head.process->name()), head.clients,
                                    world_.now());
        world_.trace("heads", "{} forms {}", head.process->name(), history_.name());
    }
}

void Heads::answered(std::string_view client, check::Order begin) {
    if (begin < since_) return;
    const Head& head = head_of(client);
    if (head.process == holder_ || !findings_.empty()) return;
    findings_.push_back(
        {.check = "heads",
         .text = fmt::format("{}: {} answers {} a request that came when {} had "
                             "formed it",
                             history_.name(), head.process->name(), client, holder_->name()),
         .when = world_.now(),
         .story = {}});
}

}  // namespace dst::sim
