// Checkers: what must hold in every run, each looked at from outside. To add one: a class in a file
// of this folder, and its line in registry.cc.
#pragma once

#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "sim/check/finding.h"
#include "sim/run/stage.h"

namespace dst::sim {

class Checker {
  public:
    explicit Checker(Stage& stage) : stage_(stage) {}
    virtual ~Checker() = default;
    Checker(const Checker&) = delete;
    Checker& operator=(const Checker&) = delete;

    /// Now and then while the scenario runs, between two events.
    virtual void look() {}
    /// What has not come to its end yet, although it is calm; empty: nothing. It is waited for.
    [[nodiscard]] virtual std::string waits_for() { return {}; }
    /// It is calm, and every request is answered. All run, and nobody asks anything.
    virtual void when_calm() {}
    /// The clients have stopped, and daemons had the time to flush what they keep.
    virtual void when_idle() {}
    /// All have stopped.
    virtual void at_end() {}

    [[nodiscard]] const std::vector<check::Finding>& findings() const { return findings_; }

  protected:
    [[nodiscard]] Stage& stage() const { return stage_; }
    void found(check::Finding finding) { findings_.push_back(std::move(finding)); }
    /// Now.
    void found(std::string check, std::string text) {
        findings_.push_back({.check = std::move(check),
                             .text = std::move(text),
                             .when = stage_.world().now(),
                             .story = {}});
    }

  private:
    Stage& stage_;
    std::vector<check::Finding> findings_;
};

struct CheckerKind {
    std::string_view name;
    std::string_view about;
    std::unique_ptr<Checker> (*make)(Stage& stage);
};
/// All there are.
[[nodiscard]] std::span<const CheckerKind> checkers();

// One each in the files of this folder.
[[nodiscard]] std::unique_ptr<Checker> make_history_checker(Stage& stage);
[[nodiscard]] std::unique_ptr<Checker> make_error_checker(Stage& stage);
[[nodiscard]] std::unique_ptr<Checker> make_stop_checker(Stage& stage);
[[nodiscard]] std::unique_ptr<Checker> make_limit_checker(Stage& stage);
[[nodiscard]] std::unique_ptr<Checker> make_mirror_checker(Stage& stage);
[[nodiscard]] std::unique_ptr<Checker> make_heirs_checker(Stage& stage);

}  // namespace dst::sim
