#include "storage/place.h"

#include <fmt/format.h>

#include <algorithm>

#include "algorithm/mirror/superblock_reader.h"

namespace dst::storage {
namespace {

using metadata::Holder;

/// What is no node is looked at no sooner than this after the last time.
constexpr io::Duration kLookAgainAfter = std::chrono::seconds(1);
/// And asked how large it is no sooner than this, which takes a new connection; for so long.
constexpr io::Duration kAskSizeEach = std::chrono::seconds(10);
constexpr io::Duration kAnswerMax = std::chrono::seconds(3);
/// How long a look may take, and a claim, which waits for what another head has there under way.
constexpr io::Duration kLookMax = std::chrono::seconds(10);
constexpr io::Duration kClaimMax = std::chrono::seconds(30);

/// Pings keep the lease, which is half of takeover: several of them, so that one may be late.
io::Duration ping_each(const Settings& settings) { return settings.mirror.takeover / 10; }

std::string who(const nbd::Holder& holder) {
    return fmt::format("head {:016x} (start {})", holder.head, holder.incarnation);
}

}  // namespace

Place::Place(Surroundings& around, const Settings& settings, MemberSpec spec, bool is_witness,
             Member::Owner& owner, const Judge& judge, block::Account& memory)
    : around_(around),
      settings_(settings),
      is_witness_(is_witness),
      judge_(judge),
      memory_(memory),
      member_(around, settings, spec, stable_hash(settings.name + "/" + spec.type), owner,
              {.gate = this,
               .ping_each = ping_each(settings),
               .silence_max =
                   std::min<io::Duration>(std::chrono::seconds(3), settings.mirror.timing.grace)}) {
}

SectorCount Place::size() const { return metadata::whole_pages(member_.size()); }

bool Place::can_reserve() const {
    return member_.remote() != nullptr && member_.remote()->status().is_ours;
}

bool Place::is_connected() const { return member_.is_there() && member_.is_connected(); }

std::optional<io::TimePoint> Place::silent_since() const {
    return member_.remote() != nullptr ? member_.remote()->silent_since() : std::nullopt;
}

std::optional<io::TimePoint> Place::vouched_at() const {
    if (!can_reserve()) return std::nullopt;
    if (!is_granted_) return io::TimePoint::min();
    return member_.remote()->answered_ping_sent_at().value_or(io::TimePoint::min());
}

bool Place::is_taken() const {
    return member_.remote() != nullptr && member_.remote()->status().fenced;
}

std::uint64_t Place::instance() const {
    return member_.remote() != nullptr ? member_.remote()->peer_instance() : 0;
}

void Place::drop() {
    if (member_.remote() != nullptr) member_.remote()->drop();
}

bool Place::has_lost_changes() const {
    return is_local() && member_.instance_change() != accepted_change_;
}

void Place::accept_losses() {
    if (is_local()) accepted_change_ = member_.instance_change();
}

async::Task<Result<mirror::FoundSuperblock>> Place::find_at(std::vector<SectorCount> ends) {
    ends.insert(ends.begin(), size());
    co_return co_await mirror::find_superblock(*member_.device(), std::move(ends), memory_);
}

/// A connection from before that doesn't reach its end, and where that was there is nothing any
/// more.
async::Task<bool> Place::has_grown() {
    const io::TimePoint now = around_.world.clock.now();
    if (is_local() || (asked_size_at_ && now < *asked_size_at_ + kAskSizeEach)) co_return false;
    asked_size_at_ = now;
    const SectorCount before = size();
    co_return co_await member_.refresh_size(now + kAnswerMax) && size() > before;
}

async::Task<metadata::Place> Place::look(std::vector<SectorCount> sizes) {
    co_await looking_.acquire();
    struct Turn {
        async::Semaphore& looking;
        ~Turn() { looking.release(); }
    } const turn{looking_};
    // Its exporter may answer pings while its disk hangs, and others wait for their turn.
    auto late = [this] { drop(); };
    io::Deadline<decltype(late)> timer(late);
    timer.arm(around_.world.clock, around_.world.clock.now() + kLookMax);
    metadata::Place place{
        .name = name(), .can_reserve = is_local() || can_reserve(), .is_broken = is_broken_};
    // Until that is known it is what it was: who asks for a node meanwhile is to find it.
    struct Known {
        std::optional<metadata::Cookie>& is;
        std::optional<metadata::Cookie> found{};
        ~Known() { is = found; }
    } known{cookie_};
    if (!is_connected()) {
        place.seen = metadata::Unreachable{member_.reason()};
        co_return place;
    }
    has_failed_look_ = true;  // until it has been read
    place.size = size();
    auto found = co_await find_at(sizes);
    if (found && !found->reading) {
        // Most that is blank will be made a node in a moment.
        if (!asked_size_at_) asked_size_at_ = around_.world.clock.now();
        if (co_await has_grown()) {
            place.size = size();
            found = co_await find_at(sizes);
        }
    }
    std::optional<Result<nbd::Reservation>> reservation;
    if (can_reserve()) reservation = co_await member_.remote()->read_reservation();
    // Its exporter remembers where it ended before: this head may never have seen it.
    if (found && !found->reading && reservation && *reservation) {
        bool is_news = false;
        for (const SectorCount size_then : (*reservation)->sizes) {
            const SectorCount end = metadata::whole_pages(size_then);
            if (end == size() || std::ranges::find(sizes, end) != sizes.end()) continue;
            sizes.push_back(end);
            is_news = true;
        }
        if (is_news) found = co_await find_at(sizes);
    }
    if (!found) {
        place.seen = metadata::Unreachable{
            fmt::format("reading its superblock failed: {}", to_string(found.error().code))};
        co_return place;
    }
    has_failed_look_ = false;
    place.instance = instance();
    may_hold_an_age_ = found->reading.has_value();
    if (!found->reading) {
        place.seen = found->reading.error();
    } else if (const metadata::Form& form = found->reading->form;
               !is_witness_ && block_bytes() > form.block_bytes) {
        place.seen = metadata::Unreachable{
            fmt::format("it has blocks of {} bytes, and who uses the storage may write {}",
                        block_bytes(), form.block_bytes)};
        co_return place;
    } else {
        superblock_end_ = found->end;
        known.found = found->reading->cookie;
        place.seen = *found->reading;
    }
    if (!reservation) co_return place;
    if (!*reservation) {
        known.found.reset();
        has_failed_look_ = true;
        place.seen = metadata::Unreachable{
            fmt::format("asking who has it failed: {}", to_string(reservation->error().code))};
        co_return place;
    }
    const std::optional<nbd::Holder>& holder = (*reservation)->holder;
    if (!holder) {
        place.holder = Holder::nobody;
    } else if (holder->head == around_.head.id) {
        place.holder = Holder::us;
        // A claim whose answer was lost, or a release that never got there: it is ours to release.
        if (!number_ && holder->is(around_.head.id, around_.head.incarnation)) {
            number_ = (*reservation)->number;
            is_granted_ = false;
        }
    } else {
        place.holder_id = holder->head;
        place.holder = (*reservation)->is_open                    ? Holder::connected
                       : (*reservation)->gone >= holder->takeover ? Holder::lapsed
                                                                  : Holder::gone;
    }
    co_return place;
}

async::Task<Outcome<>> Place::erase() {
    may_hold_an_age_ = false;
    for (unsigned copy = 0; copy < metadata::kSuperblockCopies; ++copy) {
        const auto range = metadata::superblock_place(size(), copy);
        if (!range) co_return refuse(ErrorCode::no_space, "it is too small for any metadata");
        block::Request zero{
            .op = block::Op::write_zeroes, .fua = true, .if_connected = true, .range = *range};
        const Result<> done = co_await member_.device()->execute(zero);
        if (!done)
            co_return refuse(done.error().code, fmt::format("erasing its old metadata failed: {}",
                                                            to_string(done.error().code)));
    }
    co_return Outcome<>{};
}

bool Place::is_to_be_looked_at() {
    if (!is_connected()) {
        look_again_at_ = {};
        return false;
    }
    const io::TimePoint now = around_.world.clock.now();
    if (now < look_again_at_) return false;
    look_again_at_ = now + kLookAgainAfter;
    return true;
}

bool Place::note_stranger(std::string why) {
    if (why == why_stranger_) return false;
    why_stranger_ = std::move(why);
    return true;
}

bool Place::is_ours(const nbd::Reservation& reservation) const {
    return reservation.holder &&
           reservation.holder->is(around_.head.id, around_.head.incarnation) &&
           reservation.number == number_;
}

async::Task<Outcome<>> Place::claim(bool by_force) {
    is_used_ = true;
    if (!can_reserve()) co_return Outcome<>{};
    node::Remote& remote = *member_.remote();
    auto late = [this] { drop(); };
    io::Deadline<decltype(late)> timer(late);
    timer.arm(around_.world.clock, around_.world.clock.now() + kClaimMax);
    const auto now = co_await remote.read_reservation();
    if (!now)
        co_return refuse(now.error().code,
                         fmt::format("asking who has it failed: {}", to_string(now.error().code)));
    // A claim that was not answered is repeated, also where it has done its work: the exporter may
    // still wait for changes of who had it before.
    if (is_granted_ && is_ours(*now)) co_return Outcome<>{};
    const nbd::Ruling ruling = co_await remote.claim(
        {.expected = now->number, .takeover = settings_.mirror.takeover, .force = by_force});
    if (ruling.done) {
        number_ = ruling.now.number;
        is_granted_ = true;
        co_return Outcome<>{};
    }
    if (ruling.done.error().code != ErrorCode::not_permitted)
        co_return refuse(
            ruling.done.error().code,
            fmt::format("claiming it failed: {}", to_string(ruling.done.error().code)));
    co_return refuse(
        ErrorCode::not_permitted,
        ruling.now.holder
            ? fmt::format("{} has it{}", who(*ruling.now.holder),
                          ruling.now.is_open
                              ? " and is connected"
                              : fmt::format(", gone for {} s", ruling.now.gone.count() / 1000))
            : ruling.text);
}

async::Task<void> Place::release() {
    is_granted_ = false;
    if (const auto number = std::exchange(number_, std::nullopt);
        number && can_reserve() && member_.remote()->is_ready())
        static_cast<void>(co_await member_.remote()->release(*number));  // else it lapses
}

void Place::begin_anew() {
    number_.reset();
    is_granted_ = false;
    is_used_ = false;
    if (is_taken()) member_.remote()->readmit();
}

/// Design §5: before anything is replayed it is made sure that no other head was there meanwhile.
async::Task<Outcome<>> Place::admit(node::Visit& visit) {
    if (!visit.is_ours()) co_return co_await admit_plain(visit);
    if (!number_) co_return Outcome<>{};
    const auto now = co_await visit.read_reservation();
    if (!now) co_return refuse(ErrorCode::node_lost, "asking who has it failed");
    // Given up meanwhile: then nothing is kept that could be replayed.
    if (!number_ || is_ours(*now)) co_return Outcome<>{};
    if (!now->holder)
        co_return refuse(
            "nobody has it reserved any more (its exporter has lost its state_dir, or another head "
            "was here); stopping and starting the storage takes it again");
    co_return refuse(now->holder->head != around_.head.id
                         ? fmt::format("{} has taken it", who(*now->holder))
                         : "another start of this head has taken it");
}

/// A plain server can't be reserved; what lies on it says who was there last.
async::Task<Outcome<>> Place::admit_plain(node::Visit& visit) {
    if (!is_used_ || superblock_end_.value() == 0) co_return Outcome<>{};
    // No memory of the storage: who waits for this node may hold all that there is.
    std::vector<std::byte> bytes(metadata::kSuperblockBytes);
    const auto read = [&](SectorRange range, std::span<std::byte> into) {
        return visit.read(range, into);
    };
    const auto found = co_await mirror::read_copies(superblock_end_, bytes, read);
    if (!found) co_return refuse(ErrorCode::node_lost, "reading its superblock failed");
    co_return judge_.judge(found->reading);
}

}  // namespace dst::storage
