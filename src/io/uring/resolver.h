// Resolver: from an endpoint to the addresses of its host, without blocking the reactor.
//
// The system's look-up blocks, for as long as name servers are silent, and can't be given up. So
// each runs on a thread of its own that nobody waits for: whoever asked may go away, and so may the
// reactor. Who asks for a name that is being looked up joins in, so there are no more such threads
// than names.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "io/interrupt.h"
#include "io/uring/reactor.h"
#include "io/uring/socket_address.h"

namespace dst::io::uring {

class Resolver {
  public:
    explicit Resolver(Reactor& reactor);
    ~Resolver();
    Resolver(const Resolver&) = delete;
    Resolver& operator=(const Resolver&) = delete;

    /// At least one address. `not_found`, `timed_out`, `cancelled`. Suspends for names only.
    async::Task<Outcome<std::vector<SocketAddress>>> resolve(Endpoint endpoint, TimePoint deadline,
                                                             Interrupt& interrupt);

  private:
    struct Home;
    struct Search;
    using Name = std::pair<std::string, std::uint16_t>;

    std::shared_ptr<Search> start(const Name& name);

    Reactor& reactor_;
    std::shared_ptr<Home> home_;  // shared with the threads, which may outlive this
    std::map<Name, std::shared_ptr<Search>> searches_;
};

}  // namespace dst::io::uring
