#include "sim/check/history.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "base/check.h"
#include "sim/check/stamp.h"

namespace dst::sim::check {

using block::Op;

History::History(std::string name, std::uint16_t id, bool is_fenced)
    : name_(std::move(name)), id_(id), is_fenced_(is_fenced) {}

History::Number History::begin(std::string_view client, const block::Request& request,
                               io::TimePoint now) {
    operations_.push_back({.client = client,
                           .op = request.op,
                           .fua = request.fua,
                           .range = request.op == Op::flush ? SectorRange{} : request.range,
                           .begin = ++order_,
                           .begin_time = now,
                           .end_time = {}});
    const Number number = operations_.size();
    if (block::is_change(request.op))
        for (std::uint64_t at = 0; at < request.range.count.value(); ++at)
            touch(request.range.first + SectorCount(at),
                  {.number = static_cast<std::uint32_t>(number)});
    return number;
}

void History::touch(SectorIndex sector, Touch touch) {
    if (last_touch_.size() <= sector.value()) last_touch_.resize(sector.value() + 1);
    touch.before =
        std::exchange(last_touch_[sector.value()], static_cast<std::uint32_t>(touches_.size() + 1));
    touches_.push_back(touch);
}

std::vector<History::Touch> History::touches_of(SectorIndex sector) const {
    std::vector<Touch> touches;
    if (sector >= sectors_end()) return touches;
    for (std::uint32_t at = last_touch_[sector.value()]; at != 0; at = touches.back().before)
        touches.push_back(touches_[at - 1]);
    std::ranges::reverse(touches);
    return touches;
}

void History::fill(Number write, std::span<std::byte> data) const {
    check::fill(data, {.volume = id_, .sector = operation(write).range.first}, write);
}

void History::end(Number number, Fate fate, io::TimePoint now) {
    Operation& ended = operations_[number - 1];
    CHECK(ended.fate == Fate::open);
    ended.fate = fate;
    ended.end_time = now;
    ended.end = ++order_;
}

void History::done(Number number, io::TimePoint now) { end(number, Fate::done, now); }

void History::failed(Number number, ErrorCode error, io::TimePoint now) {
    end(number, Fate::failed, now);
    operations_[number - 1].error = error;
}

void History::lost(Number number, io::TimePoint now) { end(number, Fate::lost, now); }

void History::saw(Number read, std::span<const std::byte> data) {
    const SectorRange range = operation(read).range;
    CHECK(data.size() == to_bytes(range.count).value());
    for (std::uint64_t at = 0; at < range.count.value(); ++at)
        saw_sector(read, range.first + SectorCount(at),
                   data.subspan(at * kSectorBytes, kSectorBytes));
}

void History::saw_sector(Number read, SectorIndex sector, std::span<const std::byte> data) {
    const Content content = look(data, {.volume = id_, .sector = sector});
    Touch seen{.number = static_cast<std::uint32_t>(read), .kind = Sight::Kind::alien};
    switch (content.kind) {
        case Content::Kind::zero:
            seen.kind = Sight::Kind::zero;
            break;
        case Content::Kind::stamp:
            if (!wrote(content.write, sector)) break;
            seen.kind = Sight::Kind::data;
            seen.found = static_cast<std::uint32_t>(content.write);
            break;
        case Content::Kind::misplaced:
            damage_.push_back(
                {.check = "misplaced",
                 .text = fmt::format("read #{} found sector {} of volume {}, as write "
                                     "#{} left it",
                                     read, content.place.sector.value(), content.place.volume,
                                     content.write),
                 .sector = sector,
                 .read = read});
            return;
        case Content::Kind::torn:
            damage_.push_back({.check = "torn",
                               .text = fmt::format("read #{} found less than a whole sector of one "
                                                   "write: #{} in front, #{} behind",
                                                   read, content.write, content.write_behind),
                               .sector = sector,
                               .read = read});
            return;
        case Content::Kind::alien:
            break;
    }
    touch(sector, seen);
}

bool History::wrote(Number number, SectorIndex sector) const {
    return number >= 1 && number <= operations_.size() && operation(number).op == Op::write &&
           operation(number).range.contains({sector, SectorCount(1)});
}

void History::saw_zeroes(Number status, SectorRange range) {
    for (std::uint64_t at = 0; at < range.count.value(); ++at)
        touch(range.first + SectorCount(at),
              {.number = static_cast<std::uint32_t>(status), .kind = Sight::Kind::zero});
}

void History::crash(std::string why, bool is_final, io::TimePoint now) {
    crashed_ = order_ + 1;
    events_.push_back(
        {is_final ? Event::Kind::crash : Event::Kind::forgot, ++order_, now, std::move(why)});
}

Order History::take_over(std::string why, std::span<const std::string_view> clients,
                         io::TimePoint now) {
    crash(std::move(why), true, now);
    const Order since = order_;
    for (Operation& operation : operations_)
        if (operation.fate == Fate::open &&
            std::ranges::find(clients, operation.client) != clients.end())
            operation.begin = ++order_;
    return since;
}

void History::lose_everything(std::string why, io::TimePoint now) {
    crashed_ = lost_all_ = order_ + 1;
    events_.push_back({Event::Kind::loss, ++order_, now, std::move(why)});
}

void History::settle(std::string why, io::TimePoint now) {
    events_.push_back({Event::Kind::settled, ++order_, now, std::move(why)});
}

}  // namespace dst::sim::check
