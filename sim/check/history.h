// History: what the clients of a volume asked for, what they were told, and when; and the judgement
// over it.
//
// A volume is what keeps a client's data: one address space with one memory that a crash may empty.
// All its clients write into one history, so that each sees what the others did. Each request has a
// number, the first is 1; a write's number is the stamp that it leaves.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "base/units.h"
#include "block/request.h"
#include "io/clock.h"
#include "sim/check/finding.h"
#include "sim/check/register.h"

namespace dst::sim::check {

/// What became of a request.
enum class Fate : std::uint8_t {
    open,    // not answered yet
    done,    // answered, and well
    failed,  // answered with an error
    lost,    // its client or its connection is gone: it will never be answered
};

struct Operation {
    std::string_view client;  // outlives the history
    block::Op op = block::Op::read;
    bool fua = false;
    SectorRange range;  // of a flush: empty
    Fate fate = Fate::open;
    ErrorCode error = ErrorCode::io_error;  // of one that failed
    Order begin = 0;
    Order end = kNever;
    io::TimePoint begin_time;
    io::TimePoint end_time;
};

class History {
  public:
    using Number = std::uint64_t;

    /// `id` tells its stamps from those of other volumes. `is_fenced`: a request of before a final
    /// crash can't take effect once one of after it was answered.
    History(std::string name, std::uint16_t id, bool is_fenced);

    [[nodiscard]] const std::string& name() const { return name_; }
    [[nodiscard]] std::uint16_t id() const { return id_; }

    // What clients do. Each request ends once.

    Number begin(std::string_view client, const block::Request& request, io::TimePoint now);
    /// What a write with that number writes.
    void fill(Number write, std::span<std::byte> data) const;
    void done(Number number, io::TimePoint now);
    void failed(Number number, ErrorCode error, io::TimePoint now);
    void lost(Number number, io::TimePoint now);
    /// What a read found. Before `done`.
    void saw(Number read, std::span<const std::byte> data);
    /// A block status says that these sectors read as zeroes. Before `done`.
    void saw_zeroes(Number status, SectorRange range);

    // What happens to the volume.

    /// What is not durable may be lost now. `is_final`: it is over with all that was volatile, and
    /// with the requests that are under way.
    void crash(std::string why, bool is_final, io::TimePoint now);
    /// Somebody else keeps it from now on: a crash that is final, but for the requests of
    /// `clients`, which are his and have waited for him. Returns when that is in the order of
    /// things.
    Order take_over(std::string why, std::span<const std::string_view> clients, io::TimePoint now);
    /// The same as a final crash, and what is durable is lost, too.
    void lose_everything(std::string why, io::TimePoint now);
    /// What was acknowledged so far survives any crash from now on: an orderly stop.
    void settle(std::string why, io::TimePoint now);

    [[nodiscard]] const Operation& operation(Number number) const {
        return operations_[number - 1];
    }
    [[nodiscard]] std::span<const Operation> operations() const { return operations_; }

    /// When it last lost, or may have lost, what was not durable; 0: never.
    [[nodiscard]] Order crashed() const { return crashed_; }
    /// When what was durable was lost, too; 0: never.
    [[nodiscard]] Order lost_all() const { return lost_all_; }

    /// What is wrong, one finding a sector, at most `most` of them.
    [[nodiscard]] std::vector<Finding> judge(std::size_t most) const;

  private:
    friend class Judgement;
    friend class Story;
    /// A request meets a sector: a change goes there, or a read found something.
    struct Touch {
        std::uint32_t number = 0;
        std::uint32_t found = 0;   // number of the change; of a read that found a stamp
        std::uint32_t before = 0;  // where the sector's touch before this one is, and one more
        Sight::Kind kind = Sight::Kind::zero;
    };
    /// Something that happened to the volume as a whole.
    struct Event {
        enum class Kind : std::uint8_t { forgot, crash, loss, settled };
        Kind kind = Kind::crash;
        Order order = 0;
        io::TimePoint time;
        std::string why;
    };
    /// Data that no order of requests explains.
    struct Damage {
        std::string_view check;
        std::string text;
        SectorIndex sector;
        Number read = 0;
        Number other = 0;
    };

    void end(Number number, Fate fate, io::TimePoint now);
    void touch(SectorIndex sector, Touch touch);
    /// In the order in which they came.
    [[nodiscard]] std::vector<Touch> touches_of(SectorIndex sector) const;
    [[nodiscard]] SectorIndex sectors_end() const { return SectorIndex(last_touch_.size()); }
    void saw_sector(Number read, SectorIndex sector, std::span<const std::byte> data);
    [[nodiscard]] bool wrote(Number number, SectorIndex sector) const;

    const std::string name_;
    const std::uint16_t id_;
    const bool is_fenced_;
    Order order_ = 0;
    Order crashed_ = 0;
    Order lost_all_ = 0;
    std::vector<Operation> operations_;
    std::vector<Touch> touches_;
    std::vector<std::uint32_t> last_touch_;  // of each sector: its place, and one more; 0: none
    std::vector<Event> events_;
    std::vector<Damage> damage_;
};

}  // namespace dst::sim::check
