// Heads: the daemons that may form a volume's storage, of which one does at a time.
//
// A reign begins when one of them forms it, before that one answers anything. What the one before
// acknowledged and nobody flushed may be lost then, so to the history it is a crash; and what that
// one still has under way is answered in vain.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "sim/check/finding.h"
#include "sim/check/history.h"
#include "sim/process.h"
#include "sim/world.h"

namespace dst::sim {

class Heads {
  public:
    /// `history` is the volume's. Both outlive it.
    Heads(check::History& history, World& world) : history_(history), world_(world) {}
    Heads(const Heads&) = delete;
    Heads& operator=(const Heads&) = delete;

    /// A daemon that shows the storage as `export_name`.
    void add(Process& process, std::string export_name);
    /// A client inside of it.
    void add_client(const Process& process, std::string_view client);

    [[nodiscard]] bool are_several() const { return heads_.size() > 1; }
    /// The head of `client` has the storage now, as far as it knows.
    [[nodiscard]] bool serves_client(std::string_view client) const {
        return is_serving(head_of(client));
    }
    /// The heads that have it, but for that of `client`.
    [[nodiscard]] std::vector<Process*> others_serving(std::string_view client) const;
    [[nodiscard]] bool another_serves(std::string_view client) const {
        return !others_serving(client).empty();
    }
    /// Whoever formed it last, as far as was seen; null before that.
    [[nodiscard]] const Process* holder() const { return holder_; }

    /// Looks whether another reign has begun. To be called after each event, for reigns to be seen
    /// in their order, and before anything is noted of a request.
    void look();
    /// A request of `client`'s was answered well that began as `begin`: so nobody else may have
    /// begun to reign before that.
    void answered(std::string_view client, check::Order begin);
    [[nodiscard]] const std::vector<check::Finding>& findings() const { return findings_; }

  private:
    struct Head {
        Process* process = nullptr;
        std::string export_name;
        std::vector<std::string_view> clients;
        std::uint64_t reign = 0;  // instance of the storage that was seen last; 0: none
    };
    /// Instance of the storage as it is formed there now; 0: it is not.
    [[nodiscard]] static std::uint64_t reign_of(const Head& head);
    [[nodiscard]] static bool is_serving(const Head& head) { return reign_of(head) != 0; }
    [[nodiscard]] const Head& head_of(std::string_view client) const;

    check::History& history_;
    World& world_;
    std::vector<Head> heads_;
    const Process* holder_ = nullptr;
    check::Order since_ = 0;  // of the reign
    std::vector<check::Finding> findings_;
};

}  // namespace dst::sim
