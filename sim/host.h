// Host: a machine: an address, disks, processes, and a kernel that outlives them, unless the power
// goes.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "io/net.h"
#include "sim/disk.h"
#include "sim/process.h"

namespace dst::sim {

class Port;
class World;
struct Remains;

class Host {
  public:
    /// `index`: its place in the world; its address is 10.0.0.(index + 1).
    Host(World& world, std::string name, std::size_t index);
    ~Host();
    Host(const Host&) = delete;
    Host& operator=(const Host&) = delete;

    [[nodiscard]] World& world() const { return world_; }
    [[nodiscard]] const std::string& name() const { return name_; }
    [[nodiscard]] std::size_t index() const { return index_; }
    [[nodiscard]] const io::Address& address() const { return address_; }
    [[nodiscard]] io::Endpoint endpoint(std::uint16_t port) const;

    Disk& add_disk(std::string path, DiskSettings settings = {});
    /// It does not run before it is started.
    Process& add_process(const std::string& name, Process::Main main);
    [[nodiscard]] const std::vector<std::unique_ptr<Disk>>& disks() const { return disks_; }
    [[nodiscard]] const std::vector<std::unique_ptr<Process>>& processes() const {
        return processes_;
    }
    [[nodiscard]] Disk* find_disk(const std::string& path) const;
    /// What `FileSystem::store` has stored: durable and whole.
    [[nodiscard]] std::map<std::string, std::string>& small_files() { return small_files_; }

    /// Its processes are gone at once, its disks lose any part of what was not synced, and whoever
    /// speaks to it meets silence.
    void lose_power();
    /// Nothing runs yet: processes are started one by one.
    void restore_power();
    [[nodiscard]] bool has_power() const { return has_power_; }
    /// How many connections were made to it, ever.
    [[nodiscard]] std::uint64_t connections_taken() const { return connections_taken_; }
    void step_wall_clock(io::Duration by) { wall_skew_ += by; }
    [[nodiscard]] io::WallTime wall_now() const;

    // For the implementation.

    [[nodiscard]] bool is_own(const io::Endpoint& endpoint) const;
    /// The host that is meant, as seen from here; null if there is none.
    [[nodiscard]] Host* resolve(const io::Endpoint& endpoint);
    void count_connection() { ++connections_taken_; }
    /// Null if it is in use.
    Port* open_port(const io::Endpoint& endpoint);
    void close_port(Port& port);
    /// Where connections to `endpoint` go; null: nobody listens.
    [[nodiscard]] Port* find_port(const io::Endpoint& endpoint) const;
    /// A process was killed: the kernel takes care of this, at once or some time later.
    void clean_up(Remains remains);

  private:
    class CleanUp;

    World& world_;
    const std::string name_;
    const std::size_t index_;
    io::Address address_;
    bool has_power_ = true;
    std::uint64_t connections_taken_ = 0;
    io::Duration wall_skew_{};
    std::uint16_t next_free_port_ = 40000;
    std::map<std::string, std::string> small_files_;
    std::vector<std::unique_ptr<Disk>> disks_;
    std::vector<std::unique_ptr<Port>> ports_;
    std::vector<std::unique_ptr<CleanUp>> clean_ups_;
    std::vector<std::unique_ptr<Process>> processes_;  // last: they use all of the above
};

}  // namespace dst::sim
