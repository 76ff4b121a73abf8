#include "control/tree_mount.h"

#include "base/log.h"

namespace dst::control {

std::string tree_path(const Config& config) { return config.run_dir + "/sysfs"; }

TreeMount::TreeMount(io::uring::Reactor& reactor, const Config& config, tree::Content& content,
                     async::Scope& writes)
    : reactor_(reactor), server_(content, writes, reactor.wall_now()) {
    auto opened = io::uring::FuseMount::open(reactor, tree_path(config), tree::Server::operations(),
                                             &server_);
    if (!opened) {
        log::warning("the tree is not shown at {}: {}", tree_path(config), opened.error().text);
        return;
    }
    mount_ = std::move(*opened);
    reactor.block_on([](TreeMount& tree) -> async::Task<void> {
        tree.scope_.spawn(tree.mount_->serve());
        co_return;
    }(*this));
}

TreeMount::~TreeMount() { close(); }

void TreeMount::changed() {
    if (mount_ != nullptr) server_.changed();
}

void TreeMount::close() {
    if (mount_ == nullptr) return;
    reactor_.block_on([](TreeMount& tree) -> async::Task<void> {
        tree.mount_->stop();
        co_await tree.scope_.join();
        tree.server_.dismiss();
    }(*this));
    mount_->close();
    mount_.reset();
}

}  // namespace dst::control
