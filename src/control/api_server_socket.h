// The API's door: a socket in the file system that only its owner may use, one daemon at a time.
#pragma once

#include <string>
#include <utility>

#include "base/result.h"

namespace dst::control {

/// Closes the descriptor that it holds.
class Descriptor {
  public:
    Descriptor() = default;
    explicit Descriptor(int number) : number_(number) {}
    Descriptor(Descriptor&& other) noexcept : number_(std::exchange(other.number_, -1)) {}
    Descriptor& operator=(Descriptor&& other) noexcept;
    ~Descriptor() { close(); }

    [[nodiscard]] int number() const { return number_; }
    [[nodiscard]] bool is_open() const { return number_ >= 0; }
    /// Gives it away.
    [[nodiscard]] int release() { return std::exchange(number_, -1); }
    void close();

  private:
    int number_ = -1;
};

/// Listens at `path`; mode 0600; not blocking. What a dead daemon left there is replaced; a living
/// one is refused (`busy`). A lock beside it (`path` + ".lock") decides, and is tried for 2 s,
/// because the kernel lets go of a killed process's late. Blocks: for start-up.
class ListeningSocket {
  public:
    [[nodiscard]] static Outcome<ListeningSocket> open(std::string path);
    ListeningSocket(ListeningSocket&&) = default;
    ListeningSocket& operator=(ListeningSocket&&) = default;
    ~ListeningSocket() { close(); }

    [[nodiscard]] int number() const { return socket_.number(); }
    /// Takes the socket away, then lets go of the lock. Idempotent.
    void close();

  private:
    ListeningSocket(std::string path, Descriptor lock)
        : path_(std::move(path)), lock_(std::move(lock)) {}
    Outcome<> bind();

    std::string path_;
    Descriptor lock_;
    Descriptor socket_;
};

/// Connects to the socket at `path`; blocking, but for no longer than 5 s.
[[nodiscard]] Outcome<Descriptor> connect_to_daemon(const std::string& path);

}  // namespace dst::control
