// Server: a kernel's requests on a tree of small files, answered as sysfs answers them.
//
// - Nothing is cached: entries and attributes are valid for no time at all, and data goes around
//   the page cache. So what has gone is gone at once, without a word to the kernel, which to say
//   could wait for a look-up that waits for us.
// - A read from the front takes a picture of the file; what is read behind it is of that picture.
// - A write(2) is a value; where in the file it goes does not matter, nor does truncating.
// - Who may not write or read a file can't open it so, root included (EACCES).
// - poll(2) says POLLPRI and POLLERR once a file differs from what was last read.
// - A write that takes long can be given up by a signal; what it asked for goes on.
//
// libfuse decodes and encodes (fuse_lowlevel.h); requests come from whoever serves the mount
// (io/uring/fuse_mount.h), on the reactor's thread.
#pragma once

#include <sys/types.h>

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "async/scope.h"
#include "async/task.h"
#include "io/clock.h"
#include "tree/content.h"
#include "tree/inodes.h"

struct fuse_file_info;
struct fuse_lowlevel_ops;
struct fuse_pollhandle;
struct fuse_req;
struct stat;

namespace dst::tree {

class Server {
  public:
    /// How many writes may be under way; more get EAGAIN.
    static constexpr std::size_t kWritesMax = 64;

    /// `writes` has what is written, until it is done. Both outlive it. `since`: the time that
    /// files show.
    Server(Content& content, async::Scope& writes, io::WallTime since);
    /// After `dismiss`.
    ~Server();
    Server(const Server&) = delete;
    Server& operator=(const Server&) = delete;

    /// Entry points for a session whose context is a Server.
    [[nodiscard]] static const fuse_lowlevel_ops& operations();

    /// Something in the content may have changed: whoever polls is told if that is so for them.
    void changed();
    /// No request comes any more: those under way are answered with ESHUTDOWN, and polls are
    /// dropped. What the writes asked for goes on.
    void dismiss();

  private:
    using Request = fuse_req*;
    struct Open;
    struct Write;
    struct Calls;  // what `operations` points to

    void look_up(Request request, InodeNumber parent, std::string_view name);
    void get_attributes(Request request, InodeNumber number);
    void open(Request request, InodeNumber number, fuse_file_info& info);
    void open_folder(Request request, InodeNumber number, fuse_file_info& info);
    void close(std::uint64_t handle);
    void read(Request request, std::size_t size, off_t at, std::uint64_t handle);
    void read_folder(Request request, std::size_t size, off_t at, std::uint64_t handle);
    void write(Request request, std::string value, std::uint64_t handle);
    void poll(Request request, std::uint64_t handle, fuse_pollhandle* whom);
    static async::Task<void> carry_out(Content& content, std::shared_ptr<Write> write,
                                       std::string path, std::string value);

    [[nodiscard]] std::optional<struct stat> stat_of(std::string_view path) const;
    void look_again(Open& opened);
    [[nodiscard]] Open& opened(std::uint64_t handle) { return *opens_.at(handle); }
    std::uint64_t add(std::unique_ptr<Open> opened);

    Content& content_;
    async::Scope& scope_;
    const io::WallTime since_;
    Inodes inodes_;
    std::map<std::uint64_t, std::unique_ptr<Open>> opens_;
    std::uint64_t last_handle_ = 0;
    std::vector<std::shared_ptr<Write>> writes_;
};

}  // namespace dst::tree
