// Every read is explained by the writes: check/register.h says how. And of several heads one
// answers at a time.
#include "sim/checkers/checker.h"

namespace dst::sim {
namespace {

/// One tells enough; a few show whether it is one sector or all.
constexpr std::size_t kFindingsMax = 3;

class HistoryChecker final : public Checker {
  public:
    using Checker::Checker;
    void at_end() override {
        for (const auto& volume : stage().volumes()) {
            for (const auto& finding : volume->heads().findings()) found(finding);
            for (auto& finding : volume->history().judge(kFindingsMax)) found(std::move(finding));
        }
    }
};

}  // namespace

std::unique_ptr<Checker> make_history_checker(Stage& stage) {
    return std::make_unique<HistoryChecker>(stage);
}

}  // namespace dst::sim
