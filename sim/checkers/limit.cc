// Memory and queues stay within their limits, as far as they show from outside.
#include <fmt/format.h>

#include "sim/checkers/checker.h"
#include "sim/client.h"

namespace dst::sim {
namespace {

class LimitChecker final : public Checker {
  public:
    using Checker::Checker;

    void look() override {
        for (const auto& customer : stage().customers())
            if (customer->spec->kind == ClientKind::node && customer->process->is_serving())
                look_at_node(*customer);
    }

  private:
    void look_at_node(const Stage::Customer& customer) {
        const node::Remote* const node = customer.process->program_as<ClientProgram>().node();
        const node::RemoteStatus status = node->status();
        // A single request may be longer than the window.
        const std::uint64_t most =
            std::max(customer.spec->replay_window.value(), customer.spec->longest.value() + 4096);
        if (status.window_bytes > most)
            found("limit", fmt::format("{} keeps {} bytes for a replay, more than {}",
                                       customer.spec->name, status.window_bytes, most));
        // Beside its own requests it may flush by itself.
        const std::size_t requests_max = customer.spec->depth + 1;
        if (status.waiting > requests_max)
            found("limit", fmt::format("{} requests of {} wait, which never has more than {}",
                                       status.waiting, customer.spec->name, requests_max));
    }
};

}  // namespace

std::unique_ptr<Checker> make_limit_checker(Stage& stage) {
    return std::make_unique<LimitChecker>(stage);
}

}  // namespace dst::sim
