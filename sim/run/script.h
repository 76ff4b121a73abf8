// Script: the steps of a scenario, each at its time.
#pragma once

#include <cstdint>
#include <vector>

#include "async/task.h"
#include "control/daemon.h"
#include "sim/run/stage.h"

namespace dst::sim {

class Script {
  public:
    /// The stage outlives it.
    explicit Script(Stage& stage);
    Script(const Script&) = delete;
    Script& operator=(const Script&) = delete;

    /// The clients have found their devices: time begins.
    void begin();
    /// Every step was taken, and every command answered.
    [[nodiscard]] bool is_over() const { return left_ == 0; }

  private:
    struct Waiting {
        const StepSpec* spec;
        bool is_taken = false;
    };
    void look();
    void take(Waiting& waiting);
    void strike(const StrikeStep& step);
    void start(const StartStep& step);
    void grow(const GrowStep& step);
    void tell(const TellStep& step, unsigned tries);
    void told(const TellStep& step, unsigned tries, const Outcome<>& done);
    void note_stop(const TellStep& step, bool is_done);
    void note_force(const TellStep& step);
    [[nodiscard]] std::vector<Volume*> volumes_of(const TellStep& step,
                                                  const std::string& storage) const;
    [[nodiscard]] async::Task<Outcome<>> overrule(control::Daemon& daemon,
                                                  const StorageOverrule& told) const;
    static async::Task<void> run(control::Daemon& daemon, TellStep step, unsigned tries,
                                 Script& script);

    Stage& stage_;
    std::vector<Waiting> steps_;
    std::size_t left_;
};

}  // namespace dst::sim
