// For tests: a program that is one function.
#pragma once

#include <memory>

#include "async/scope.h"
#include "sim/process.h"

namespace dst::sim {

/// Runs `function(world, context)` from its start on. `context` outlives it; the end waits for it.
template <typename Context>
class Script final : public Program {
  public:
    using Function = async::Task<void> (*)(io::World world, Context& context);

    Script(io::World world, Function function, Context& context)
        : world_(world), function_(function), context_(context) {}
    async::Task<Outcome<>> start() override {
        scope_.spawn(function_(world_, context_));
        co_return Outcome<>{};
    }
    async::Task<void> stop() override { co_await scope_.join(); }

  private:
    io::World world_;
    Function function_;
    Context& context_;
    async::Scope scope_;
};

template <typename Context>
[[nodiscard]] Process::Main script(typename Script<Context>::Function function, Context& context) {
    return [function, &context](io::World world) {
        return std::make_unique<Script<Context>>(world, function, context);
    };
}

}  // namespace dst::sim
