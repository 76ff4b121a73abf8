// Administrator: a person who changes the nodes of a mirror while it is in use.
//
// At random moments he gives a command: a node comes in (one that was removed, or a spare), goes
// out, is replaced, is marked, or the copies are compared. He has eyes, so he asks for what makes
// sense by the status, and takes no for an answer; but what is accepted must be so at once, and
// what is refused must have changed nothing that is written down. What a head that died in the
// midst of it has left half done he puts right when it is calm.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "async/task.h"
#include "control/daemon.h"
#include "sim/check/finding.h"
#include "sim/run/copies.h"
#include "sim/run/stage.h"

namespace dst::sim {

class Administrator {
  public:
    /// Both outlive what the stage runs. Does nothing where the scenario has none.
    explicit Administrator(Stage& stage);
    Administrator(const Administrator&) = delete;
    Administrator& operator=(const Administrator&) = delete;

    /// The clients have found their devices: he begins.
    void begin();
    /// All commands were given and answered.
    [[nodiscard]] bool is_over() const { return left_ == 0 && !is_busy_; }
    /// From now on he only puts right what is not as it should be.
    void calm();

    [[nodiscard]] const std::vector<check::Finding>& findings() const { return findings_; }

  private:
    enum class Verb : std::uint8_t { add, remove, replace, dirty, clean, verify };
    struct Order {
        Verb verb = Verb::verify;
        control::NodeStatus node{};              // of remove, replace, dirty, clean
        std::optional<control::NodeSpec> place;  // of add, replace
        bool is_witness = false;                 // of add
        bool force = false;                      // of add, replace; of verify: repair
    };
    class Busy;

    void look();
    void give();
    [[nodiscard]] std::optional<Order> draw(const control::StorageStatus& status);
    [[nodiscard]] std::optional<Order> mend(const control::StorageStatus& status);
    [[nodiscard]] std::vector<control::NodeSpec> free_places(
        const control::StorageStatus& status) const;
    [[nodiscard]] std::vector<control::NodeSpec> written_down() const;
    [[nodiscard]] async::Task<Outcome<>> perform(control::Daemon& daemon, const Order& order) const;
    void check(const control::StorageStatus& status, const Order& order);
    [[nodiscard]] bool is_written_down(const std::string& type) const;
    void found(std::string text);
    [[nodiscard]] std::string text_of(const Order& order) const;
    static async::Task<void> carry_out(control::Daemon& daemon, Order order,
                                       Administrator& administrator);

    Stage& stage_;
    const AdministratorSpec& spec_;
    std::string storage_;
    Process* process_ = nullptr;  // of the head
    std::optional<Mirrored> mirror_;
    std::vector<control::NodeSpec> places_;
    std::uint64_t left_;
    bool is_calm_ = false;
    bool is_busy_ = false;  // a command is not answered yet
    io::TimePoint next_at_;
    std::vector<check::Finding> findings_;
};

}  // namespace dst::sim
