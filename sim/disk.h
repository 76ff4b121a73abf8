// Disk: a file or block device of a host, which survives whatever happens to processes and power.
//
// Semantics are those of a disk with a volatile cache (the medium tells what a power cut leaves):
// changes take effect when they are answered; those that are in flight when their process is
// killed, or when the power goes, take effect, or do in part, or do not. Faults are fields that may
// be changed at any time.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <vector>

#include "base/list.h"
#include "base/result.h"
#include "base/units.h"
#include "sim/event_queue.h"
#include "sim/medium.h"
#include "sim/operation.h"

namespace dst::sim {

class Host;
class World;
class DiskRequest;
struct InFlightTag {};
struct ParkedTag {};

struct DiskSettings {
    SectorCount size{8192};
    std::uint32_t block_bytes = 512;
    bool is_block_device = false;
    bool can_discard = true;
    bool can_zero_fast = true;
    io::Duration latency = std::chrono::microseconds(60);
    io::Duration jitter = std::chrono::microseconds(120);
    io::Duration sync_latency = std::chrono::microseconds(400);
    std::uint64_t bytes_per_second = 1'000'000'000;
};

/// What is wrong with a disk at the moment.
struct DiskFaults {
    Rate read_error{};
    Rate write_error{};
    Rate flush_error{};
    /// So often a request is stuck, for up to that long.
    Rate stuck{};
    io::Duration stuck_max = std::chrono::seconds(10);
    /// Added to every request.
    io::Duration slowness{};
    /// Nothing is answered at all.
    bool hangs = false;
    /// What was never written has no place any more.
    bool is_full = false;
};

/// Keeps others out while it lives.
class DiskLock {
  public:
    DiskLock(class Disk& disk, bool is_shared) : disk_(disk), is_shared_(is_shared) {}
    ~DiskLock();
    DiskLock(const DiskLock&) = delete;
    DiskLock& operator=(const DiskLock&) = delete;

  private:
    Disk& disk_;
    bool is_shared_;
};

class Disk {
  public:
    Disk(Host& host, std::string path, DiskSettings settings);
    ~Disk();
    Disk(const Disk&) = delete;
    Disk& operator=(const Disk&) = delete;

    [[nodiscard]] const std::string& path() const { return path_; }
    [[nodiscard]] const DiskSettings& settings() const { return settings_; }
    [[nodiscard]] Host& host() const { return host_; }
    [[nodiscard]] Medium& medium() const { return *medium_; }
    [[nodiscard]] bool is_open() const { return users_ > 0; }
    /// Requests that are not answered yet.
    [[nodiscard]] std::size_t in_flight() const { return in_flight_; }

    [[nodiscard]] const DiskFaults& faults() const { return faults_; }
    /// It has a request that it does not answer for long.
    [[nodiscard]] bool is_stuck() const;
    void set_faults(DiskFaults faults);
    /// Of those that begin from now on.
    void set_sync_latency(io::Duration latency) { settings_.sync_latency = latency; }
    /// The sector can't be read until it is written again.
    void make_unreadable(SectorIndex sector) { unreadable_.insert(sector.value()); }
    void make_readable() { unreadable_.clear(); }
    [[nodiscard]] bool has_unreadable() const { return !unreadable_.empty(); }
    /// Another disk, blank and of that size, is put in its place; the old one lies on the shelf.
    /// Nobody may have it open.
    void exchange(SectorCount size);
    /// The disk from the shelf is put back. Nobody may have the other one open.
    void put_back();
    [[nodiscard]] bool is_exchanged() const { return shelf_ != nullptr; }
    /// The same disk, larger from now on.
    void grow(SectorCount size) {
        ends_before_.push_back(medium_->size());
        medium_->grow(size);
    }
    /// Where it ended before it grew.
    [[nodiscard]] const std::vector<SectorCount>& ends_before() const { return ends_before_; }

    /// Null if it is in use.
    [[nodiscard]] std::unique_ptr<DiskLock> try_lock(bool is_shared);
    void lose_power();
    /// What a failed flush gave up is dropped: the file shows what the disk has.
    void drop_lost();
    /// Why changes that were answered may have been undone.
    enum class Loss : std::uint8_t { power_cut, failed_flush };
    void watch(std::function<void(Loss)> watcher) { watcher_ = std::move(watcher); }

  private:
    friend class DiskLock;
    friend class DiskRequest;
    void start(DiskRequest& request);
    [[nodiscard]] io::Duration time_for(const DiskRequest& request);
    Result<> perform(DiskRequest& request);
    Result<> read(DiskRequest& request);
    Result<> write(DiskRequest& request);
    Result<> sync(DiskRequest& request);
    void write_some(DiskRequest& request);
    void unlock(bool is_shared);
    void release_parked();
    void tell(Loss loss) const;
    [[nodiscard]] std::unique_ptr<Medium> new_medium(SectorCount size);

    Host& host_;
    World& world_;
    const std::string path_;
    DiskSettings settings_;
    std::uint64_t media_ = 0;  // how many there have been
    std::unique_ptr<Medium> medium_;
    std::unique_ptr<Medium> shelf_;
    std::vector<SectorCount> ends_before_;
    DiskFaults faults_;
    std::set<std::uint64_t> unreadable_;
    std::size_t users_ = 0;
    std::size_t in_flight_ = 0;
    io::TimePoint stuck_until_{};  // the last of those that take so long is answered
    bool has_writer_ = false;
    std::optional<Medium::Epoch> lost_until_;  // a flush failed: the cache gave up so much
    std::function<void(Loss)> watcher_;
    List<DiskRequest, ParkedTag> parked_;
};

/// One request to a disk. `co_await` it: the answer.
class DiskRequest final : public Operation,
                          public ListHook<InFlightTag>,
                          public ListHook<ParkedTag>,
                          private Event {
  public:
    enum class Kind : std::uint8_t { read, write, durable_write, sync, discard, zero, unmap };

    /// `range` and `data` as the kind needs them.
    DiskRequest(Process& process, Disk& disk, Kind kind, SectorRange range = {},
                std::span<std::byte> data = {})
        : Operation(process), disk_(disk), kind_(kind), range_(range), data_(data) {}

    Result<> await_resume() const { return result_; }
    /// Its process dies now: what it was to change is changed, or is not, or is in part.
    void interrupt(bool with_power);

  private:
    friend class Disk;
    void begin() override;
    void happen() override;

    Disk& disk_;
    const Kind kind_;
    const SectorRange range_;
    const std::span<std::byte> data_;
    Medium::Epoch epoch_ = 0;  // of a sync
    Result<> result_;
};

}  // namespace dst::sim
