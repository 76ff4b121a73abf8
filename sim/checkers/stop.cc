// An orderly stop ends in time (the keeper has looked, and killed who did not).
#include "sim/checkers/checker.h"

namespace dst::sim {
namespace {

class StopChecker final : public Checker {
  public:
    using Checker::Checker;
    void at_end() override {
        for (const std::string& complaint : stage().keeper().complaints()) found("stop", complaint);
    }
};

}  // namespace

std::unique_ptr<Checker> make_stop_checker(Stage& stage) {
    return std::make_unique<StopChecker>(stage);
}

}  // namespace dst::sim
