#include "storage/storage.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/check.h"
#include "storage/mirrored.h"
#include "storage/plain.h"

namespace dst::storage {
namespace {

std::uint64_t draw(io::Random& random) {
    std::uint64_t drawn = 0;
    while (drawn == 0) drawn = random.next();
    return drawn;
}

}  // namespace

std::uint64_t stable_hash(std::string_view text) {
    std::uint64_t hash = 0xcbf29ce484222325;
    for (const char letter : text) {
        hash ^= static_cast<unsigned char>(letter);
        hash *= 0x100000001b3;
    }
    return hash;
}

std::string_view to_string(State state) {
    switch (state) {
        case State::running:
            return "running";
        case State::degraded:
            return "degraded";
        case State::holding:
            return "holding";
        case State::waiting:
            return "waiting";
        case State::fenced:
            return "fenced";
        case State::stopped:
            return "stopped";
    }
    return "unknown";
}

std::string who_waits(std::size_t requests) {
    if (requests == 0) return {};
    return requests == 1 ? "1 request waits for " : fmt::format("{} requests wait for ", requests);
}

std::unique_ptr<Storage> make_storage(Surroundings& around, Settings settings) {
    if (settings.algorithm == "mirror")
        return std::make_unique<MirroredStorage>(around, std::move(settings));
    return std::make_unique<PlainStorage>(around, std::move(settings));
}

Storage::Storage(Surroundings& around, Settings settings)
    : around_(around),
      settings_(std::move(settings)),
      since_(around.world.clock.wall_now()),
      changes_(around.any_change),
      instance_(draw(around.world.random)) {}

Storage::~Storage() = default;

std::uint64_t Storage::identity() const { return stable_hash(settings_.name); }

bool Storage::uses(std::string_view below) const {
    const auto is_it = [&](const MemberSpec& member) {
        const auto* const place = std::get_if<StoragePlace>(&member.place);
        return place != nullptr && place->storage->name() == below;
    };
    return std::ranges::any_of(settings_.members, is_it) ||
           std::ranges::any_of(settings_.mirror.witnesses, is_it);
}

void Storage::set_settings(Settings settings) {
    CHECK(!is_started() && settings.name == settings_.name &&
          settings.algorithm == settings_.algorithm);
    settings_ = std::move(settings);
    changes_.wake_all();
}

void Storage::become_formed() {
    CHECK(!is_formed_);
    is_formed_ = true;
    instance_ = draw(around_.world.random);
    since_ = around_.world.clock.wall_now();
    changes_.wake_all();
}

void Storage::become_unformed() {
    is_formed_ = false;
    unpaused_.wake_all();
    since_ = around_.world.clock.wall_now();
    changes_.wake_all();
}

async::Task<Outcome<>> Storage::formed(io::TimePoint deadline) {
    while (!is_formed_) {
        if (const auto end = dead_end()) co_return std::unexpected(*end);
        if (!is_started()) co_return refuse(ErrorCode::busy, obstacle());
        if (stopping_) co_return refuse(ErrorCode::cancelled, "it is being stopped");
        if (around_.ending) co_return refuse(ErrorCode::shutting_down, "the daemon is stopping");
        if (!co_await io::wait_until(around_.world.clock, changes_, deadline) && !is_formed_)
            co_return refuse(ErrorCode::timed_out, obstacle());
    }
    co_return Outcome<>{};
}

async::Task<void> Storage::drained() {
    while (in_flight_ > 0 || held_ > 0) co_await idle_.wait();
}

void Storage::go_on() {
    is_paused_ = false;
    unpaused_.wake_all();
}

/// An error: it is over for good, or lasts too long.
async::Task<Result<>> Storage::pause_is_over() {
    const io::TimePoint patience =
        settings_.hold ? around_.world.clock.now() + *settings_.hold : io::TimePoint::max();
    ++held_;
    bool is_in_time = true;
    while (is_paused_ && !stopping_ && is_formed_ && is_in_time)
        is_in_time = co_await io::wait_until(around_.world.clock, unpaused_, patience);
    if (--held_ == 0) idle_.wake_all();
    if (!is_formed_ || stopping_)
        co_return fail(ErrorCode::shutting_down, "the storage is not running");
    if (is_paused_) co_return fail(ErrorCode::io_error, "held for too long");
    co_return Result<>{};
}

void Storage::lose_changes() { instance_ = draw(around_.world.random); }

async::Task<bool> Storage::drained_until(io::TimePoint deadline) {
    while (in_flight_ > 0)
        if (!co_await io::wait_until(around_.world.clock, idle_, deadline)) break;
    co_return in_flight_ == 0;
}

async::Task<Result<>> Storage::execute(block::Request& request) {
    struct InFlight {
        Storage& storage;
        explicit InFlight(Storage& of) : storage(of) { ++storage.in_flight_; }
        ~InFlight() {
            if (--storage.in_flight_ == 0) storage.idle_.wake_all();
        }
        InFlight(const InFlight&) = delete;
        InFlight& operator=(const InFlight&) = delete;
    };
    if (!is_formed_) co_return fail(ErrorCode::shutting_down, "the storage is not running");
    if (is_paused_) CO_TRY_VOID(co_await pause_is_over());
    const InFlight in_flight(*this);
    const io::Clock& clock = around_.world.clock;
    const io::TimePoint asked_at = clock.turn_time();
    if (request.op == block::Op::flush) {
        const Result<> done = co_await perform(request);
        measures_.note(request, done, clock.turn_time() - asked_at);
        co_return done;
    }
    using Mode = async::RangeLock::Mode;
    async::RangeLock::Hold hold(locks_, request.range,
                                block::is_change(request.op) ? Mode::exclusive : Mode::shared);
    co_await hold.granted();
    queueing_[request.op].add(clock.turn_time() - asked_at);
    const Result<> done = co_await perform(request);
    measures_.note(request, done, clock.turn_time() - asked_at);
    co_return done;
}

Outcome<> Storage::refuse_as_no_mirror() const {
    return refuse(ErrorCode::unsupported,
                  fmt::format("storage '{}' is {}: only the copies of a mirror can be changed so",
                              name(), settings_.algorithm));
}

async::Task<Outcome<>> Storage::remove_node(node::Cookie, bool, io::TimePoint) {
    co_return refuse_as_no_mirror();
}

Outcome<> Storage::forget_place(const std::string&) { return refuse_as_no_mirror(); }

async::Task<Outcome<>> Storage::replace_node(node::Cookie, MemberSpec, Adding, io::TimePoint) {
    co_return refuse_as_no_mirror();
}

async::Task<Outcome<>> Storage::mark_dirty(node::Cookie, bool, io::TimePoint) {
    co_return refuse_as_no_mirror();
}

async::Task<Outcome<>> Storage::mark_clean(node::Cookie, bool) { co_return refuse_as_no_mirror(); }

Outcome<> Storage::overrule(const Overruling&) { return refuse_as_no_mirror(); }

Outcome<> Storage::begin_comparison(bool) { return refuse_as_no_mirror(); }

async::Task<Outcome<>> Storage::grow(io::TimePoint) {
    co_return refuse(ErrorCode::unsupported,
                     fmt::format("storage '{}' is {}: it grows by one more node, with 'dst node "
                                 "add'",
                                 name(), settings_.algorithm));
}

Outcome<> Storage::set_resync(ResyncSettings) { return refuse_as_no_mirror(); }

}  // namespace dst::storage
