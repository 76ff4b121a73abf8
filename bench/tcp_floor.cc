// The floor: the bytes of a storage protocol with no storage behind them, over loopback TCP.
//
//     tcp_floor REQUEST_BYTES REPLY_BYTES DEPTH POLL
//
// A server on core 1 answers each receive buffer with one send; a client on core 0 keeps DEPTH
// requests outstanding for two seconds. POLL 1: both sides spin. Prints requests per second.
#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sched.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <vector>

namespace {

std::vector<char> buffer(8 << 20);

void pin(int core) {
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET(static_cast<unsigned>(core), &set);
    sched_setaffinity(0, sizeof set, &set);
}

long receive(int socket, bool poll) {
    while (true) {
        const ssize_t got = recv(socket, buffer.data(), 1 << 20, poll ? MSG_DONTWAIT : 0);
        if (got >= 0 || !poll) return got;
    }
}

bool send_bytes(int socket, long bytes) {
    while (bytes > 0) {
        const auto piece = std::min<std::size_t>(static_cast<std::size_t>(bytes), buffer.size());
        const ssize_t sent = send(socket, buffer.data(), piece, MSG_NOSIGNAL);
        if (sent <= 0) return false;
        bytes -= sent;
    }
    return true;
}

void no_delay(int socket) {
    const int one = 1;
    setsockopt(socket, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
}

/// Answers each whole request of `request` bytes with `reply` bytes, until the client goes.
void serve(int listener, long request, long reply, bool poll) {
    pin(1);
    const int socket = accept(listener, nullptr, nullptr);
    no_delay(socket);
    long have = 0;
    while (true) {
        const long got = receive(socket, poll);
        if (got <= 0) return;
        have += got;
        const long whole = have / request;
        have -= whole * request;
        if (!send_bytes(socket, whole * reply)) return;
    }
}

}  // namespace

int main(int count, char** words) {
    if (count != 5) {
        std::fprintf(stderr, "tcp_floor REQUEST_BYTES REPLY_BYTES DEPTH POLL\n");
        return 2;
    }
    const long request = std::atol(words[1]);
    const long reply = std::atol(words[2]);
    const long depth = std::atol(words[3]);
    const bool poll = std::atoi(words[4]) != 0;
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t length = sizeof address;
    const int listener = socket(AF_INET, SOCK_STREAM, 0);
    if (bind(listener, reinterpret_cast<sockaddr*>(&address), length) != 0 ||
        listen(listener, 1) != 0 ||
        getsockname(listener, reinterpret_cast<sockaddr*>(&address), &length) != 0) {
        std::perror("tcp_floor");
        return 1;
    }
    const pid_t server = fork();
    if (server == 0) {
        serve(listener, request, reply, poll);
        _exit(0);
    }
    pin(0);
    const int client = socket(AF_INET, SOCK_STREAM, 0);
    if (connect(client, reinterpret_cast<sockaddr*>(&address), length) != 0) {
        std::perror("tcp_floor");
        kill(server, SIGKILL);
        return 1;
    }
    no_delay(client);
    using Clock = std::chrono::steady_clock;
    const auto begun = Clock::now();
    const auto elapsed = [&] {
        return std::chrono::duration<double>(Clock::now() - begun).count();
    };
    long done = 0;
    long have = 0;
    bool alive = send_bytes(client, depth * request);
    while (alive && elapsed() < 2) {
        const long got = receive(client, poll);
        if (got <= 0) break;
        have += got;
        const long whole = have / reply;
        have -= whole * reply;
        done += whole;
        if (whole > 0) alive = send_bytes(client, whole * request);
    }
    std::printf("%.0f\n", static_cast<double>(done) / elapsed());
    close(client);
    waitpid(server, nullptr, 0);
    return 0;
}
