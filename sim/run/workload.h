// Workload: what a client has to do and has done. It outlives the lives of the client's process,
// and each life goes on where the one before stood.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "sim/check/history.h"
#include "sim/load.h"
#include "sim/scenario/scenario.h"
#include "sim/world.h"

namespace dst::sim {

class Workload {
  public:
    /// `history` is that of the volume that the client sees.
    Workload(const ClientSpec& spec, check::History& history, World& world);
    Workload(const Workload&) = delete;
    Workload& operator=(const Workload&) = delete;

    [[nodiscard]] const ClientSpec& spec() const { return spec_; }
    [[nodiscard]] check::History& history() const { return history_; }

    /// What a life of the client's process runs.
    [[nodiscard]] std::unique_ptr<Load> make_load();

    /// A worker sleeps so long now and then, on average, so that faults meet every state.
    void set_burst_pause(io::Duration pause) { burst_pause_ = pause; }
    /// Called when a request was answered.
    void set_on_answer(std::function<void()> action) { on_answer_ = std::move(action); }
    /// The device is one that another head may take over: `look` is called before anything is noted
    /// of a request, `answered` when one was answered well. An io_error says only that this head
    /// does not answer.
    void set_contested(std::function<void()> look,
                       std::function<void(check::Order begin)> answered) {
        on_note_ = std::move(look);
        on_success_ = std::move(answered);
    }
    /// When the requests are over: reads everything once.
    void read_back();

    /// The client has found its device, once at least.
    [[nodiscard]] bool has_device() const { return size_.value() > 0; }
    /// Nothing is left to be done, and nothing under way.
    [[nodiscard]] bool is_over() const;
    [[nodiscard]] std::uint64_t answered() const { return answered_; }
    [[nodiscard]] std::uint64_t failed() const { return failed_; }
    /// What is left, for a person.
    [[nodiscard]] std::string state() const;

  private:
    friend class RequestLoad;
    friend class Recorded;
    static constexpr std::size_t kRecent = 8;

    [[nodiscard]] SectorRange own_part(SectorCount size) const;
    /// The next request; its data is not made yet. False if there is nothing to do now.
    [[nodiscard]] bool next(block::Request& request, const block::Geometry& geometry);
    [[nodiscard]] bool next_read_back(block::Request& request);
    [[nodiscard]] block::Op draw_op();
    [[nodiscard]] SectorRange draw_range(const block::Geometry& geometry);

    const ClientSpec& spec_;
    check::History& history_;
    World& world_;
    Random& random_;
    io::Duration burst_pause_{};
    io::TimePoint rests_until_{};
    std::function<void()> on_answer_;
    std::function<void()> on_note_;
    std::function<void(check::Order)> on_success_;
    SectorCount size_;  // of the device, when it was last seen
    std::uint64_t left_;
    std::uint64_t under_way_ = 0;
    std::uint64_t answered_ = 0;
    std::uint64_t failed_ = 0;
    SectorRange unread_;  // what is still to be read back
    bool reads_back_ = false;
    std::array<SectorRange, kRecent> recent_{};  // where requests went lately
    std::size_t recent_at_ = 0;
};

}  // namespace dst::sim
