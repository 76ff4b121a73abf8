// No request fails without a fault that excuses it, at that place and time.
#include <fmt/format.h>

#include <algorithm>

#include "sim/check/story.h"
#include "sim/checkers/checker.h"

namespace dst::sim {
namespace {

using block::Op;
using check::Fate;
using check::Operation;

/// The findings of one volume are alike.
constexpr std::size_t kFindingsMax = 3;

bool ends_process(Fault fault) {
    return fault == Fault::kill || fault == Fault::restart || fault == Fault::power_cut ||
           fault == Fault::exchanged_disk || fault == Fault::smaller_disk;
}

/// Breaks connections, or hinders those who have them.
bool is_of_connections(Fault fault) {
    return target_kind(fault) != TargetKind::disk && fault != Fault::clock_step;
}

/// May make a flush fail, soon or much later.
bool spoils_flushes(Fault fault) {
    return fault == Fault::flush_error || fault == Fault::write_error || fault == Fault::full_disk;
}

class ErrorChecker final : public Checker {
  public:
    using Checker::Checker;

    void at_end() override {
        for (const auto& volume : stage().volumes()) look_at(*volume);
    }

  private:
    void look_at(const Volume& volume) {
        const auto operations = volume.history().operations();
        std::size_t count = 0;
        for (std::size_t at = 0; at < operations.size() && count < kFindingsMax; ++at) {
            const Operation& operation = operations[at];
            const bool is_excused = operation.fate == Fate::failed ? excuses(volume, operation)
                                    : operation.fate == Fate::lost ? excuses_loss(volume, operation)
                                                                   : true;
            if (is_excused) continue;
            ++count;
            found({.check = "error",
                   .text = fmt::format("{}: {}: {} {}, and nothing excuses that", volume.name(),
                                       operation.client, check::to_string(operation, at + 1),
                                       operation.fate == Fate::failed
                                           ? fmt::format("failed ({})", to_string(operation.error))
                                           : std::string("was never answered")),
                   .when = operation.end_time,
                   .story = {}});
        }
    }

    [[nodiscard]] const Stage::Customer& customer(const Operation& operation) const {
        for (const auto& each : stage().customers())
            if (each->spec->name == operation.client) return *each;
        check_failed("a client of the scenario", __FILE__, __LINE__);
    }

    template <typename Predicate>
    [[nodiscard]] bool any_struck(Predicate predicate) const {
        return std::ranges::any_of(stage().faults().log(), predicate);
    }

    [[nodiscard]] bool excuses(const Volume& volume, const Operation& operation) const {
        switch (operation.error) {
            case ErrorCode::io_error:
                return excuses_io_error(volume, operation) || has_held(volume, operation);
            case ErrorCode::no_space:
                return any_struck([&](const Struck& struck) {
                    return struck.fault == Fault::full_disk && is_of(volume, struck) &&
                           struck.begin <= operation.end_time;
                });
            default:
                return false;
        }
    }

    /// A disk on the way fails, or has, where that lasts: what a failed flush or a change that
    /// can't be written again has spoilt is mended by a later write or a restart alone.
    [[nodiscard]] bool excuses_io_error(const Volume& volume, const Operation& operation) const {
        const bool is_read = operation.op == Op::read || operation.op == Op::block_status;
        return any_struck([&](const Struck& struck) {
            if (!is_of(volume, struck) || struck.begin > operation.end_time) return false;
            const bool lasts = struck.end >= operation.begin_time;
            switch (struck.fault) {
                case Fault::read_error:
                case Fault::bad_sector:
                    return is_read && lasts;
                default:
                    return spoils_flushes(struck.fault);
            }
        });
    }

    /// It has waited for as long as the administrator wanted anybody to wait; or, of a change, the
    /// flush has that was to make room for it in a replay window.
    [[nodiscard]] bool has_held(const Volume& volume, const Operation& operation) const {
        std::optional<Duration> hold = customer(operation).spec->hold;
        for (const DaemonSpec* const daemon : volume.route().daemons)
            for (const control::StorageSpec& storage : daemon->config.storages)
                if (storage.hold) hold = std::min(hold.value_or(*storage.hold), *storage.hold);
        if (!hold) return false;
        const io::TimePoint since = operation.end_time - *hold;
        const bool is_read = operation.op == Op::read || operation.op == Op::block_status;
        // Who waited so long himself may have begun before the fault, at a node that was just
        // shaking hands.
        const bool has_waited = operation.begin_time <= since;
        return (!is_read || has_waited) && any_struck([&](const Struck& struck) {
                   return struck.begin <= (has_waited ? operation.end_time : since);
               });
    }

    /// Whoever would have told the answer is gone, or the way to it.
    [[nodiscard]] bool excuses_loss(const Volume& volume, const Operation& operation) const {
        const Stage::Customer& asker = customer(operation);
        if (volume.heads().are_several()) return true;
        const bool tells = std::ranges::any_of(stage().scenario().steps, [](const StepSpec& step) {
            return step.what.starts_with("tell ");
        });
        if (tells && asker.spec->kind != ClientKind::node) return true;
        return any_struck([&](const Struck& struck) {
            if (struck.begin > operation.end_time) return false;
            const bool is_own_end =
                ends_process(struck.fault) && (struck.target.process == asker.process ||
                                               struck.target.host == &asker.process->host());
            // A server ends the sessions of a device that has lost changes.
            const bool ends_connection = is_of_connections(struck.fault) ||
                                         (spoils_flushes(struck.fault) && is_of(volume, struck));
            return is_own_end || (asker.spec->kind == ClientKind::plain && ends_connection);
        });
    }

    [[nodiscard]] static bool is_of(const Volume& volume, const Struck& struck) {
        return std::ranges::find(volume.disks(), struck.target.disk) != volume.disks().end();
    }
};

}  // namespace

std::unique_ptr<Checker> make_error_checker(Stage& stage) {
    return std::make_unique<ErrorChecker>(stage);
}

}  // namespace dst::sim
