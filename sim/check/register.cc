#include "sim/check/register.h"

#include <fmt/format.h>

#include <algorithm>
#include <vector>

#include "base/check.h"

namespace dst::sim::check {
namespace {

/// A write and the reads of its value, within one epoch.
struct Cluster {
    Order first_end = kNever;
    Order last_begin = 0;
    std::uint64_t last_read = 0;  // number of the read that began last; 0: none

    void add(const Sight& sight) {
        first_end = std::min(first_end, sight.end);
        if (last_read != 0 && sight.begin < last_begin) return;
        last_begin = sight.begin;
        last_read = sight.read;
    }
};

/// Where a cluster lies in time: from its first end to its last begin, or the other way round.
struct Zone {
    Order first_end = 0;
    Order last_begin = 0;
    std::uint64_t number = 0;  // of the change; 0: what was there when the epoch began
    std::uint64_t last_read = 0;

    [[nodiscard]] bool is_forward() const { return first_end < last_begin; }
};

/// What the begin of an epoch was found to hold.
struct Survivor {
    Change::Kind kind = Change::Kind::data;
    std::uint64_t number = 0;
    std::uint64_t read = 0;
    Order since = 0;  // begin of the epoch

    [[nodiscard]] bool is_value_of(const Change& change) const {
        return kind == change.kind && (kind == Change::Kind::zero || number == change.number);
    }
};

class Judge {
  public:
    explicit Judge(const SectorLife& life) : life_(life) {}

    std::optional<Verdict> run() {
        begin_ = 0;
        for (std::size_t epoch = 0; epoch <= life_.crashes.size(); ++epoch) {
            end_ = epoch < life_.crashes.size() ? life_.crashes[epoch].order : kNever;
            if (auto wrong = judge_epoch()) return wrong;
            begin_ = end_;
            // What a crash has left that was not final the next one may take.
            if (epoch > 0 && !life_.crashes[epoch - 1].is_final) survivor_.reset();
        }
        return std::nullopt;
    }

  private:
    std::optional<Verdict> judge_epoch() {
        clusters_.assign(life_.changes.size(), {});
        initial_ = {};
        for (const Sight& sight : life_.sights) {
            // One that was under way in a crash may belong to either side.
            if (sight.begin < begin_ || sight.end > end_) continue;
            if (auto wrong = explain(sight)) return wrong;
        }
        return compare_zones();
    }

    /// Finds the change that the sight comes from, and adds it to that one's cluster.
    std::optional<Verdict> explain(const Sight& sight) {
        if (is_undefined(sight)) return std::nullopt;
        switch (sight.kind) {
            case Sight::Kind::data:
                return explain_data(sight);
            case Sight::Kind::zero:
                return explain_zeroes(sight);
            case Sight::Kind::alien:
                break;
        }
        return Verdict{.check = "alien",
                       .text = fmt::format("read #{} found what nobody wrote", sight.read),
                       .read = sight.read};
    }

    std::optional<Verdict> explain_data(const Sight& sight) {
        const auto found = std::ranges::find(life_.changes, sight.number, &Change::number);
        CHECK(found != life_.changes.end());
        if (found->begin > sight.end)
            return Verdict{.check = "linearizable",
                           .text = fmt::format("read #{} found write #{} before that was asked for",
                                               sight.read, sight.number),
                           .read = sight.read,
                           .other = sight.number};
        if (const Change* const newer = overwriter(found->end, sight))
            return stale(sight, fmt::format("write #{}", sight.number), *newer);
        if (is_old(*found)) return explain_by_survivor(*found, sight);
        clusters_[static_cast<std::size_t>(found - life_.changes.begin())].add(sight);
        return std::nullopt;
    }

    /// Zeroes look alike. If more than one change explains them, nothing follows from them.
    std::optional<Verdict> explain_zeroes(const Sight& sight) {
        const Change* only = nullptr;
        std::size_t count = 0;
        const auto consider = [&](const Change& change) {
            if (change.kind != Change::Kind::zero || change.begin > sight.end ||
                overwriter(change.end, sight) != nullptr)
                return;
            if (is_old(change) && is_dead(change)) return;
            // Old ones are all the same: what was there when the epoch began.
            count += only != nullptr && is_old(*only) && is_old(change) ? 0 : 1;
            only = &change;
        };
        consider(kBlank);
        for (const Change& change : life_.changes) consider(change);
        if (count > 1) return std::nullopt;
        if (count == 0) {
            const Change* const newer = overwriter(0, sight);
            if (newer != nullptr) return stale(sight, "zeroes", *newer);
            return revived(sight, "zeroes");
        }
        if (is_old(*only)) return explain_by_survivor(*only, sight);
        clusters_[static_cast<std::size_t>(only - life_.changes.data())].add(sight);
        return std::nullopt;
    }

    /// Something from before the epoch: all of its reads must agree on it.
    std::optional<Verdict> explain_by_survivor(const Change& change, const Sight& sight) {
        if (is_dead(change))
            return revived(sight, change.kind == Change::Kind::zero
                                      ? std::string("zeroes")
                                      : fmt::format("write #{}", change.number));
        if (!survivor_ || survivor_->since != begin_)
            survivor_ = {
                .kind = change.kind, .number = change.number, .read = sight.read, .since = begin_};
        initial_.add(sight);
        return std::nullopt;
    }

    /// A trim, or a change that failed, may have left anything there.
    [[nodiscard]] bool is_undefined(const Sight& sight) const {
        return std::ranges::any_of(life_.changes, [&](const Change& change) {
            return change.kind == Change::Kind::undefined && change.begin < sight.end &&
                   overwriter(change.end, sight) == nullptr;
        });
    }

    /// The last change that certainly follows what ended at `end`, and was certainly there when the
    /// sight began; null if there is none.
    [[nodiscard]] const Change* overwriter(Order end, const Sight& sight) const {
        const Change* last = nullptr;
        for (const Change& change : life_.changes) {
            if (change.begin > sight.begin) break;
            if (change.kind == Change::Kind::undefined || !change.is_acknowledged) continue;
            const bool has_survived = change.begin > begin_ || change.durable < begin_;
            if (change.begin > end && change.end < sight.begin && has_survived) last = &change;
        }
        return last;
    }

    /// Neither begun in this epoch nor under way when it began.
    [[nodiscard]] bool is_old(const Change& change) const { return change.end <= begin_; }

    /// Certainly lost in a crash.
    [[nodiscard]] bool is_dead(const Change& change) const {
        return survivor_ && change.end <= survivor_->since && !survivor_->is_value_of(change);
    }

    [[nodiscard]] Verdict stale(const Sight& sight, std::string_view found,
                                const Change& newer) const {
        const bool is_of_before = newer.begin < begin_;
        const std::string_view what = newer.kind == Change::Kind::zero ? "write_zeroes" : "write";
        return {.check = is_of_before ? "durable" : "linearizable",
                .text = is_of_before
                            ? fmt::format("read #{} found {} after a crash, although {} #{} came "
                                          "later and was durable",
                                          sight.read, found, what, newer.number)
                            : fmt::format("read #{} found {}, although {} #{} came later and was "
                                          "acknowledged before the read began",
                                          sight.read, found, what, newer.number),
                .read = sight.read,
                .other = newer.number};
    }

    [[nodiscard]] Verdict revived(const Sight& sight, std::string_view found) const {
        return {.check = "linearizable",
                .text = fmt::format(
                    "read #{} found {}, although read #{} found something else that is older than "
                    "the crash: what a crash leaves is one value, and what it takes is gone",
                    sight.read, found, survivor_->read),
                .read = sight.read,
                .other = survivor_->read};
    }

    std::optional<Verdict> compare_zones() {
        zones_.clear();
        if (initial_.last_read != 0)
            zones_.push_back({.first_end = begin_,
                              .last_begin = initial_.last_begin,
                              .last_read = initial_.last_read});
        for (std::size_t at = 0; at < clusters_.size(); ++at)
            add_zone(life_.changes[at], clusters_[at]);
        std::ranges::sort(zones_, {}, &Zone::first_end);
        const Zone* before = nullptr;
        for (const Zone& zone : zones_) {
            if (!zone.is_forward()) continue;
            if (before != nullptr && before->last_begin > zone.first_end)
                return out_of_order(*before, zone);
            before = &zone;
        }
        for (const Zone& outer : zones_)
            for (const Zone& inner : zones_)
                if (outer.is_forward() && !inner.is_forward() &&
                    outer.first_end < inner.last_begin && inner.first_end < outer.last_begin)
                    return out_of_order(outer, inner);
        return std::nullopt;
    }

    void add_zone(const Change& change, const Cluster& cluster) {
        if (change.kind == Change::Kind::undefined || is_old(change) || change.begin > end_) return;
        const bool is_certain =
            change.is_acknowledged && change.begin > begin_ && change.end < end_;
        if (!is_certain && cluster.last_read == 0) return;
        const Order end = change.end < end_ ? change.end : kNever;
        zones_.push_back({.first_end = std::min(end, cluster.first_end),
                          .last_begin = std::max({begin_, change.begin, cluster.last_begin}),
                          .number = change.number,
                          .last_read = cluster.last_read});
    }

    [[nodiscard]] static Verdict out_of_order(const Zone& outer, const Zone& inner) {
        const auto name = [](const Zone& zone) {
            return zone.number == 0 ? std::string("what was there at first")
                                    : fmt::format("change #{}", zone.number);
        };
        return {.check = "linearizable",
                .text = fmt::format("read #{} found {} again, although {} had taken its place",
                                    outer.last_read, name(outer), name(inner)),
                .read = outer.last_read,
                .other = inner.number};
    }

    /// Before anything was written.
    static constexpr Change kBlank{
        .kind = Change::Kind::zero, .is_acknowledged = true, .begin = 0, .end = 0, .durable = 0};

    const SectorLife& life_;
    Order begin_ = 0;  // of the epoch
    Order end_ = kNever;
    std::vector<Cluster> clusters_;  // of each change
    Cluster initial_;                // of what was there when the epoch began
    std::vector<Zone> zones_;
    std::optional<Survivor> survivor_;
};

}  // namespace

std::optional<Verdict> judge(const SectorLife& life) { return Judge(life).run(); }

}  // namespace dst::sim::check
