// Mirrors, as anybody may see them who reads the disks: copies that call themselves equal are
// equal, ages never go back, and when nothing is wrong all nodes are in sync.
#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <optional>

#include "control/engine.h"
#include "sim/checkers/ancestry.h"
#include "sim/checkers/checker.h"
#include "sim/daemon.h"
#include "sim/run/copies.h"

namespace dst::sim {
namespace {

using metadata::BitmapKind;
using metadata::RegionCount;
using metadata::RegionIndex;

class MirrorChecker final : public Checker {
  public:
    explicit MirrorChecker(Stage& stage) : Checker(stage), mirrors_(find_mirrors(stage)) {}

    void look() override {
        for (const Mirrored& mirror : mirrors_) {
            look_at_ages(mirror);
            look_at_comparison(mirror);
        }
    }

    [[nodiscard]] std::string waits_for() override {
        for (const Mirrored& mirror : mirrors_) {
            std::string missing = not_in_sync(mirror);
            if (!missing.empty()) return missing;
        }
        // Disks are read now and then only.
        if (stage().world().now() < looked_at_ + kLookPause) return unequal_;
        looked_at_ = stage().world().now();
        unequal_.clear();
        for (const Mirrored& mirror : mirrors_)
            if (unequal_.empty()) unequal_ = not_on_disk(mirror);
        return unequal_;
    }

    void at_end() override {
        for (const Mirrored& mirror : mirrors_) compare(mirror);
    }

  private:
    using Held = std::vector<std::pair<const Copy*, metadata::Superblock>>;

    /// Those copies that are its nodes, or are to become some. What was removed keeps what it had,
    /// and says nothing any more.
    [[nodiscard]] static std::vector<const Copy*> nodes_of(const Mirrored& mirror) {
        std::vector<const Copy*> nodes;
        std::vector<control::NodeSpec> listed;
        if (mirror.is_changed_at_run_time) listed = listed_places(mirror);
        for (std::size_t at = 0; at < mirror.copies.size(); ++at)
            if (!mirror.is_changed_at_run_time || is_listed(mirror, at, listed))
                nodes.push_back(&mirror.copies[at]);
        return nodes;
    }

    /// What is in sync was compared, and is equal: nobody has spoilt anything.
    void look_at_comparison(const Mirrored& mirror) {
        if (!mirror.is_changed_at_run_time || !findings().empty()) return;
        Process& process = *mirror.server->process;
        if (!process.is_serving()) return;
        const auto status =
            process.program_as<DaemonProgram>().daemon().engine().report(mirror.spec->name);
        if (status && status->verify && status->verify->different.value() > 0)
            found("copies", fmt::format("{} of {} has compared its copies, and found {} sectors "
                                        "that differ",
                                        mirror.spec->name, process.name(),
                                        status->verify->different.value()));
    }

    /// What was in force stays in the past of all that comes: on each disk, and for the whole. An
    /// age that never was may be given up.
    void look_at_ages(const Mirrored& mirror) {
        if (stage().is_forced()) return;
        Held held;
        for (const Copy* const each : nodes_of(mirror)) {
            const Copy& copy = *each;
            // Another disk in its place is not looked at.
            if (copy.is_exchanged()) continue;
            auto reading = superblock_on(copy);
            if (!reading) continue;
            ancestry_.note(reading->form.history);
            if (is_whole_on(copy, reading->form.history.age))
                held.emplace_back(&copy, *std::move(reading));
        }
        for (const auto& [copy, superblock] : held) {
            const metadata::Form& now = superblock.form;
            const auto [at, is_new] = held_.emplace(copy->name(), now);
            if (is_new) continue;
            const metadata::Form before = std::exchange(at->second, now);
            if (was_in_force(before) && !is_of_one_life(before, now) &&
                now.storage_id == before.storage_id &&
                !ancestry_.descends(now.history, before.history.age))
                found("age",
                      fmt::format("{} held age {}, which was in force, and holds {}, which did not "
                                  "come from it",
                                  copy->name(), metadata::to_string(before.history.age),
                                  metadata::to_string(now.history.age)));
        }
        for (const auto& [copy, superblock] : held)
            if (is_in_force(superblock.form, held)) comes_in_force(superblock.form);
    }
    /// Held by all that it names, and by so many votes as it asks for.
    static bool is_in_force(const metadata::Form& form, const Held& held) {
        if (form.is_forming) return false;
        std::size_t votes = 0;
        for (const metadata::NodeRecord& record : form.nodes) {
            const bool has_it = std::ranges::any_of(held, [&](const auto& one) {
                return one.second.cookie == record.cookie &&
                       one.second.form.storage_id == form.storage_id &&
                       one.second.form.history.age == form.history.age;
            });
            if (record.attached && !has_it) return false;
            votes += record.has_vote && has_it ? 1 : 0;
        }
        return form.quorum == metadata::Quorum::none || votes >= form.majority();
    }
    /// A head may write again what it had written before, until it was told that something later is
    /// there (a replay does); so what was seen of it was not in force after all.
    static bool is_of_one_life(const metadata::Form& before, const metadata::Form& now) {
        return before.history.age.id == now.history.age.id;
    }
    void comes_in_force(const metadata::Form& form) {
        auto& ages = in_force_[form.storage_id];
        while (!ages.empty() && ages.back().id == form.history.age.id &&
               ages.back().generation > form.history.age.generation)
            ages.pop_back();
        if (!ages.empty() && ages.back() == form.history.age) return;
        if (!ages.empty() && !ancestry_.descends(form.history, ages.back()))
            found("age", fmt::format("age {} is in force, and did not come from {}, which was",
                                     metadata::to_string(form.history.age),
                                     metadata::to_string(ages.back())));
        ages.push_back(form.history.age);
    }
    bool was_in_force(const metadata::Form& form) const {
        const auto at = in_force_.find(form.storage_id);
        return at != in_force_.end() &&
               std::ranges::find(at->second, form.history.age) != at->second.end();
    }

    /// What a mirror says of its nodes, if it is not that all are in sync. Of several heads one is
    /// enough.
    [[nodiscard]] std::string not_in_sync(const Mirrored& mirror) const {
        std::string missing;
        for (const Mirrored& other : mirrors_) {
            if (!other.is_same(mirror)) continue;
            const std::string one = not_in_sync_at(other);
            if (one.empty()) return {};
            if (missing.empty()) missing = one;
        }
        return missing;
    }
    /// What the disks say, if it is not that all hold one age, in which all nodes are attached.
    [[nodiscard]] static std::string not_on_disk(const Mirrored& mirror) {
        std::optional<metadata::Age> age;
        for (const Copy* const each : nodes_of(mirror)) {
            const Copy& copy = *each;
            const auto superblock = superblock_on(copy);
            if (!superblock) return fmt::format("{} has no superblock", copy.name());
            const metadata::Age held = superblock->form.history.age;
            if (!superblock->self().is_witness && !superblock->self().attached)
                return fmt::format("{} is not attached in its age", copy.name());
            if (age.value_or(held) != held)
                return fmt::format("{} holds age {}, and others hold {}", copy.name(),
                                   metadata::to_string(held), metadata::to_string(*age));
            age = held;
        }
        return {};
    }
    [[nodiscard]] static std::string not_in_sync_at(const Mirrored& mirror) {
        Process& process = *mirror.server->process;
        if (!process.is_serving()) return process.name() + " does not serve";
        control::Daemon& daemon = process.program_as<DaemonProgram>().daemon();
        control::Config config;
        config.storages = {*mirror.spec};
        control::Status status;
        daemon.engine().report(config, status);
        for (const control::StorageStatus& storage : status.storages)
            if (storage.state != control::StorageState::running)
                return fmt::format("{} of {}: {}", storage.name, process.name(), storage.reason);
        return {};
    }

    /// Of the newest age: what is attached is equal, but for what was never written; and what is
    /// not differs where it is stale only.
    void compare(const Mirrored& mirror) {
        Held copies;
        for (const Copy* const copy : nodes_of(mirror))
            if (auto reading = superblock_on(*copy); reading && !reading->self().is_witness)
                copies.emplace_back(copy, *std::move(reading));
        const auto newest = std::ranges::find_if(copies, [&](const auto& copy) {
            return copy.second.self().attached &&
                   std::ranges::all_of(copies, [&](const auto& other) {
                       return metadata::passes_through(copy.second.form.history,
                                                       other.second.form.history.age);
                   });
        });
        if (newest == copies.end()) return;
        const auto& [source, superblock] = *newest;
        const auto unwritten = bitmap_on(*source, superblock, {BitmapKind::unwritten, 0});
        const auto intent = bitmap_on(*source, superblock, {BitmapKind::intent, 0});
        for (const auto& [copy, other] : copies) {
            const metadata::NodeRecord* const record = superblock.form.find(other.cookie);
            if (copy == source || record == nullptr) continue;
            const auto stale = bitmap_on(*source, superblock, {BitmapKind::stale, record->slot});
            for (RegionIndex at; at < RegionIndex(unwritten.size().value()); ++at) {
                if (unwritten.test(at) || intent.test(at) || stale.test(at)) continue;
                const SectorRange range = superblock.form.shape.sectors_of(at);
                if (source->read(range) == copy->read(range)) continue;
                found("copies",
                      fmt::format("{} and {} differ in sectors {}+{}, which are neither stale nor "
                                  "being changed nor unwritten",
                                  source->name(), copy->name(), range.first.value(),
                                  range.count.value()));
                break;
            }
            if (record->attached && stale.any())
                found("copies", fmt::format("{} is attached, and stale in {} regions", copy->name(),
                                            stale.count().value()));
        }
    }

    static constexpr io::Duration kLookPause = std::chrono::milliseconds(100);

    std::vector<Mirrored> mirrors_;
    Ancestry ancestry_;
    io::TimePoint looked_at_;
    std::string unequal_;                                                 // what was seen then
    std::map<std::string, metadata::Form> held_;                          // by the name of the copy
    std::map<metadata::StorageId, std::vector<metadata::Age>> in_force_;  // in their order
};

}  // namespace

std::unique_ptr<Checker> make_mirror_checker(Stage& stage) {
    return std::make_unique<MirrorChecker>(stage);
}

}  // namespace dst::sim
