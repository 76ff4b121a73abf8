#define FUSE_USE_VERSION 312

#include "tree/server.h"

#include <fcntl.h>
#include <fuse_lowlevel.h>
#include <poll.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <climits>
#include <iterator>
#include <utility>

#include "base/check.h"
#include "base/log.h"

namespace dst::tree {
namespace {

constexpr double kNotForAMoment = 0;
/// What sysfs says of each file, whatever is in it; also the longest value.
constexpr unsigned kFileBytes = 4096;
constexpr unsigned kAlwaysReady = POLLIN | POLLRDNORM | POLLOUT | POLLWRNORM;
constexpr unsigned kChanged = POLLPRI | POLLERR;

mode_t mode_of(const Entry& entry) {
    if (entry.kind == Kind::folder) return S_IFDIR | 0755;
    return S_IFREG | (entry.can_read ? 0444U : 0U) | (entry.can_write ? 0200U : 0U);
}

}  // namespace

/// An open file or folder.
struct Server::Open {
    std::string path;
    /// What was last read from the front; of a folder, unused.
    std::optional<std::string> text;
    std::vector<Named> names;
    /// Somebody has polled it, so changes since the last read are of interest.
    bool is_watched = false;
    bool has_changed = false;
    fuse_pollhandle* whom = nullptr;

    Open() = default;
    Open(const Open&) = delete;
    Open& operator=(const Open&) = delete;
    ~Open() { forget_poll(); }

    void forget_poll() {
        if (whom != nullptr) ::fuse_pollhandle_destroy(std::exchange(whom, nullptr));
    }
};

/// A write that is under way. Whoever answers it first takes the request.
struct Server::Write {
    fuse_req* request = nullptr;
    std::size_t size = 0;
    bool is_done = false;

    void answer(const Outcome<>& outcome) {
        fuse_req* const asked = std::exchange(request, nullptr);
        if (asked == nullptr) return;
        if (outcome)
            ::fuse_reply_write(asked, size);
        else
            ::fuse_reply_err(asked, errno_of(outcome.error().code));
    }
    void give_up(int error) {
        if (fuse_req* const asked = std::exchange(request, nullptr); asked != nullptr)
            ::fuse_reply_err(asked, error);
    }
};

Server::Server(Content& content, async::Scope& writes, io::WallTime since)
    : content_(content), scope_(writes), since_(since) {}

Server::~Server() {
    for (const auto& write : writes_) CHECK(write->request == nullptr);
}

std::optional<struct stat> Server::stat_of(std::string_view path) const {
    const auto entry = content_.find(path);
    if (!entry) return std::nullopt;
    struct stat found{};
    found.st_ino = shown_number(path);
    found.st_mode = mode_of(*entry);
    found.st_nlink = entry->kind == Kind::folder ? 2 : 1;
    found.st_uid = ::geteuid();
    found.st_gid = ::getegid();
    found.st_size = entry->kind == Kind::folder ? 0 : kFileBytes;
    found.st_blksize = kFileBytes;
    const auto seconds = std::chrono::floor<std::chrono::seconds>(since_);
    found.st_mtim = {.tv_sec = seconds.time_since_epoch().count(),
                     .tv_nsec = (since_ - seconds).count()};
    found.st_atim = found.st_ctim = found.st_mtim;
    return found;
}

void Server::look_up(Request request, InodeNumber parent, std::string_view name) {
    const std::string* const folder = inodes_.path_of(parent);
    if (folder == nullptr) {
        ::fuse_reply_err(request, ENOENT);
        return;
    }
    const std::string path = join(*folder, name);
    const auto found = stat_of(path);
    if (!found) {
        ::fuse_reply_err(request, ENOENT);
        return;
    }
    fuse_entry_param entry{};
    entry.ino = inodes_.look_up(path);
    entry.attr = *found;
    entry.attr_timeout = kNotForAMoment;
    entry.entry_timeout = kNotForAMoment;
    // Who asked has been killed: the kernel counts no look-up.
    if (::fuse_reply_entry(request, &entry) != 0) inodes_.forget(entry.ino, 1);
}

void Server::get_attributes(Request request, InodeNumber number) {
    const std::string* const path = inodes_.path_of(number);
    const auto found = path == nullptr ? std::nullopt : stat_of(*path);
    if (found)
        ::fuse_reply_attr(request, &*found, kNotForAMoment);
    else
        ::fuse_reply_err(request, ENOENT);
}

std::uint64_t Server::add(std::unique_ptr<Open> opened) {
    opens_.emplace(++last_handle_, std::move(opened));
    return last_handle_;
}

void Server::open(Request request, InodeNumber number, fuse_file_info& info) {
    const std::string* const path = inodes_.path_of(number);
    const auto entry = path == nullptr ? std::nullopt : content_.find(*path);
    const int wanted = info.flags & O_ACCMODE;
    if (!entry) {
        ::fuse_reply_err(request, ENOENT);
    } else if ((wanted != O_WRONLY && !entry->can_read) ||
               (wanted != O_RDONLY && !entry->can_write)) {
        ::fuse_reply_err(request, EACCES);
    } else {
        auto opened = std::make_unique<Open>();
        opened->path = *path;
        info.fh = add(std::move(opened));
        info.direct_io = 1;
        const std::uint64_t handle = info.fh;
        if (::fuse_reply_open(request, &info) != 0) close(handle);
    }
}

void Server::open_folder(Request request, InodeNumber number, fuse_file_info& info) {
    const std::string* const path = inodes_.path_of(number);
    if (path == nullptr || !content_.find(*path)) {
        ::fuse_reply_err(request, ENOENT);
        return;
    }
    auto opened = std::make_unique<Open>();
    opened->path = *path;
    opened->names = {{".", Kind::folder}, {"..", Kind::folder}};
    std::ranges::move(content_.list(*path), std::back_inserter(opened->names));
    info.fh = add(std::move(opened));
    const std::uint64_t handle = info.fh;
    if (::fuse_reply_open(request, &info) != 0) close(handle);
}

void Server::close(std::uint64_t handle) { opens_.erase(handle); }

void Server::read(Request request, std::size_t size, off_t at, std::uint64_t handle) {
    Open& file = opened(handle);
    if (at == 0 || !file.text) {
        file.text = content_.read(file.path);
        file.has_changed = false;
    }
    if (!file.text) {
        ::fuse_reply_err(request, ENODEV);
        return;
    }
    const std::size_t first = std::min(static_cast<std::size_t>(at), file.text->size());
    ::fuse_reply_buf(request, file.text->data() + first, std::min(size, file.text->size() - first));
}

void Server::read_folder(Request request, std::size_t size, off_t at, std::uint64_t handle) {
    const Open& folder = opened(handle);
    std::vector<char> buffer(size);
    std::size_t used = 0;
    for (auto i = static_cast<std::size_t>(at); i < folder.names.size(); ++i) {
        const Named& named = folder.names[i];
        struct stat shown{};
        shown.st_ino = shown_number(join(folder.path, named.name));
        shown.st_mode = named.kind == Kind::folder ? S_IFDIR : S_IFREG;
        const std::size_t needed =
            ::fuse_add_direntry(request, buffer.data() + used, size - used, named.name.c_str(),
                                &shown, static_cast<off_t>(i + 1));
        if (needed > size - used) break;
        used += needed;
    }
    ::fuse_reply_buf(request, buffer.data(), used);
}

void Server::write(Request request, std::string value, std::uint64_t handle) {
    std::erase_if(writes_, [](const auto& write) { return write->is_done; });
    if (writes_.size() >= kWritesMax) {
        ::fuse_reply_err(request, EAGAIN);
        return;
    }
    const auto begun = std::make_shared<Write>(request, value.size());
    writes_.push_back(begun);
    scope_.spawn(carry_out(content_, begun, opened(handle).path, std::move(value)));
    if (begun->request == nullptr) return;
    // Calls at once if the signal has been here.
    ::fuse_req_interrupt_func(
        begun->request, [](fuse_req_t, void* write) { static_cast<Write*>(write)->give_up(EINTR); },
        begun.get());
}

/// May end after the server has died.
async::Task<void> Server::carry_out(Content& content, std::shared_ptr<Write> write,
                                    std::string path, std::string value) {
    const Outcome<> done = co_await content.write(path, std::move(value));
    if (!done) log::info("tree: {}: {}", path, done.error().text);
    write->is_done = true;
    write->answer(done);
}

/// Notes whether a file differs from what was last read there.
void Server::look_again(Open& opened) {
    if (opened.has_changed) return;
    const auto now = content_.read(opened.path);
    opened.has_changed = !now || now != opened.text;
}

void Server::poll(Request request, std::uint64_t handle, fuse_pollhandle* whom) {
    Open& file = opened(handle);
    if (whom != nullptr) {
        file.forget_poll();
        file.whom = whom;
    }
    file.is_watched = true;
    look_again(file);
    ::fuse_reply_poll(request, file.has_changed ? kAlwaysReady | kChanged : kAlwaysReady);
}

void Server::changed() {
    for (const auto& [handle, file] : opens_) {
        if (!file->is_watched) continue;
        look_again(*file);
        if (!file->has_changed || file->whom == nullptr) continue;
        ::fuse_lowlevel_notify_poll(file->whom);
        file->forget_poll();
    }
}

void Server::dismiss() {
    for (const auto& write : writes_) write->give_up(ESHUTDOWN);
    opens_.clear();
}

// What libfuse calls ----------------------------------------------------------------------------

struct Server::Calls {
    static Server& of(fuse_req_t request) {
        return *static_cast<Server*>(::fuse_req_userdata(request));
    }

    static void init(void* /*context*/, fuse_conn_info* connection) {
        connection->max_write = kFileBytes;
        connection->max_readahead = 0;
        connection->want &= ~static_cast<unsigned>(FUSE_CAP_SPLICE_READ | FUSE_CAP_SPLICE_WRITE |
                                                   FUSE_CAP_SPLICE_MOVE);
    }
    static void look_up(fuse_req_t request, fuse_ino_t parent, const char* name) {
        of(request).look_up(request, parent, name);
    }
    static void forget(fuse_req_t request, fuse_ino_t number, std::uint64_t count) {
        of(request).inodes_.forget(number, count);
        ::fuse_reply_none(request);
    }
    static void forget_multi(fuse_req_t request, std::size_t count, fuse_forget_data* forgotten) {
        for (std::size_t i = 0; i < count; ++i)
            of(request).inodes_.forget(forgotten[i].ino, forgotten[i].nlookup);
        ::fuse_reply_none(request);
    }
    static void get_attributes(fuse_req_t request, fuse_ino_t number, fuse_file_info* /*info*/) {
        of(request).get_attributes(request, number);
    }
    /// Size and times are let pass and don't change: `echo >` truncates, `touch` touches.
    static void set_attributes(fuse_req_t request, fuse_ino_t number, struct stat* /*wanted*/,
                               int which, fuse_file_info* /*info*/) {
        if ((which & (FUSE_SET_ATTR_MODE | FUSE_SET_ATTR_UID | FUSE_SET_ATTR_GID)) != 0)
            ::fuse_reply_err(request, EPERM);
        else
            of(request).get_attributes(request, number);
    }
    static void open(fuse_req_t request, fuse_ino_t number, fuse_file_info* info) {
        of(request).open(request, number, *info);
    }
    static void read(fuse_req_t request, fuse_ino_t /*number*/, std::size_t size, off_t at,
                     fuse_file_info* info) {
        of(request).read(request, size, at, info->fh);
    }
    static void write(fuse_req_t request, fuse_ino_t /*number*/, const char* bytes,
                      std::size_t size, off_t /*at*/, fuse_file_info* info) {
        of(request).write(request, std::string(bytes, size), info->fh);
    }
    static void done(fuse_req_t request, fuse_ino_t /*number*/, fuse_file_info* /*info*/) {
        ::fuse_reply_err(request, 0);
    }
    static void sync(fuse_req_t request, fuse_ino_t /*number*/, int /*data_only*/,
                     fuse_file_info* /*info*/) {
        ::fuse_reply_err(request, 0);
    }
    static void release(fuse_req_t request, fuse_ino_t /*number*/, fuse_file_info* info) {
        of(request).close(info->fh);
        ::fuse_reply_err(request, 0);
    }
    static void open_folder(fuse_req_t request, fuse_ino_t number, fuse_file_info* info) {
        of(request).open_folder(request, number, *info);
    }
    static void read_folder(fuse_req_t request, fuse_ino_t /*number*/, std::size_t size, off_t at,
                            fuse_file_info* info) {
        of(request).read_folder(request, size, at, info->fh);
    }
    static void poll(fuse_req_t request, fuse_ino_t /*number*/, fuse_file_info* info,
                     fuse_pollhandle* whom) {
        of(request).poll(request, info->fh, whom);
    }
    static void statfs(fuse_req_t request, fuse_ino_t /*number*/) {
        struct statvfs shown{};
        shown.f_bsize = shown.f_frsize = kFileBytes;
        shown.f_namemax = NAME_MAX;
        ::fuse_reply_statfs(request, &shown);
    }
    // Nothing is made or removed by hand.
    static void make_node(fuse_req_t request, fuse_ino_t, const char*, mode_t, dev_t) {
        ::fuse_reply_err(request, EPERM);
    }
    static void create(fuse_req_t request, fuse_ino_t, const char*, mode_t, fuse_file_info*) {
        ::fuse_reply_err(request, EPERM);
    }
    static void make_folder(fuse_req_t request, fuse_ino_t, const char*, mode_t) {
        ::fuse_reply_err(request, EPERM);
    }
    static void remove(fuse_req_t request, fuse_ino_t, const char*) {
        ::fuse_reply_err(request, EPERM);
    }
    static void symlink(fuse_req_t request, const char*, fuse_ino_t, const char*) {
        ::fuse_reply_err(request, EPERM);
    }
    static void rename(fuse_req_t request, fuse_ino_t, const char*, fuse_ino_t, const char*,
                       unsigned) {
        ::fuse_reply_err(request, EPERM);
    }
    static void link(fuse_req_t request, fuse_ino_t, fuse_ino_t, const char*) {
        ::fuse_reply_err(request, EPERM);
    }
};

const fuse_lowlevel_ops& Server::operations() {
    static const fuse_lowlevel_ops kOperations = [] {
        fuse_lowlevel_ops calls{};
        calls.init = Calls::init;
        calls.lookup = Calls::look_up;
        calls.forget = Calls::forget;
        calls.forget_multi = Calls::forget_multi;
        calls.getattr = Calls::get_attributes;
        calls.setattr = Calls::set_attributes;
        calls.open = Calls::open;
        calls.read = Calls::read;
        calls.write = Calls::write;
        calls.flush = Calls::done;
        calls.fsync = Calls::sync;
        calls.release = Calls::release;
        calls.opendir = Calls::open_folder;
        calls.readdir = Calls::read_folder;
        calls.releasedir = Calls::release;
        calls.fsyncdir = Calls::sync;
        calls.poll = Calls::poll;
        calls.statfs = Calls::statfs;
        calls.mknod = Calls::make_node;
        calls.create = Calls::create;
        calls.mkdir = Calls::make_folder;
        calls.unlink = Calls::remove;
        calls.rmdir = Calls::remove;
        calls.symlink = Calls::symlink;
        calls.rename = Calls::rename;
        calls.link = Calls::link;
        return calls;
    }();
    return kOperations;
}

}  // namespace dst::tree
