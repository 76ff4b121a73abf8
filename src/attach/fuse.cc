#include "attach/fuse.h"

#include <fmt/format.h>

#include <filesystem>
#include <utility>

#include "attach/fuse_attachment.h"
#include "base/log.h"
#include "io/uring/fuse_file.h"
#include "io/uring/loop_device.h"
#include "io/uring/write_back.h"

namespace dst::attach {
namespace {

class FuseWay final : public Way {
  public:
    FuseWay(io::uring::Reactor& reactor, std::string folder)
        : reactor_(reactor), folder_(std::move(folder)) {}

    [[nodiscard]] Kind kind() const override { return Kind::fuse; }
    async::Task<std::string> obstacle() override { co_return io::uring::FuseFile::obstacle(); }
    async::Task<Outcome<std::unique_ptr<Attachment>>> attach(
        const Spec& spec, Shown shown, std::unique_ptr<Attachment>& failed) override;

  private:
    io::uring::Reactor& reactor_;
    const std::string folder_;
    bool is_locked_ = false;
};

async::Task<Outcome<std::unique_ptr<Attachment>>> FuseWay::attach(
    const Spec& spec, Shown shown, std::unique_ptr<Attachment>& failed) {
    if (shown.device.geometry().read_only && !spec.read_only)
        co_return refuse(ErrorCode::not_permitted,
                         "it can only be read: attach it with --read-only");
    if (const std::string why = io::uring::LoopDevice::obstacle(); !spec.file_only && !why.empty())
        co_return refuse(ErrorCode::unsupported, why + "; --file gives a file");
    std::error_code error;
    std::filesystem::create_directories(folder_, error);
    if (error)
        co_return refuse(ErrorCode::io_error,
                         fmt::format("{} can't be made: {}", folder_, error.message()));
    if (!spec.read_only && !std::exchange(is_locked_, true)) {
        // Takes as long as there is memory.
        const std::string missing = co_await reactor_.offload(
            [arena = shown.arena] { return io::uring::lock_memory(arena); });
        if (!missing.empty()) log::warning("{}", missing);
    }
    auto made = std::make_unique<FuseAttachment>(reactor_, spec, shown);
    const Outcome<> opened = co_await made->open(folder_ + "/" + spec.name);
    if (!opened) {
        failed = std::move(made);
        co_return std::unexpected(opened.error());
    }
    co_return made;
}

}  // namespace

std::unique_ptr<Way> make_fuse_way(io::uring::Reactor& reactor, std::string folder) {
    return std::make_unique<FuseWay>(reactor, std::move(folder));
}

}  // namespace dst::attach
