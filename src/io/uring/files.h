// Files: the file system of the seam. Opening runs on a helper thread; `load` and `store` block.
#pragma once

#include "io/file.h"
#include "io/uring/reactor.h"

namespace dst::io::uring {

class Files final : public FileSystem {
  public:
    explicit Files(Reactor& reactor) : reactor_(reactor) {}

    async::Task<Outcome<std::unique_ptr<File>>> open(std::string path,
                                                     FileOptions options) override;
    Outcome<std::string> load(const std::string& path) override;
    Outcome<> store(const std::string& path, const std::string& content) override;

  private:
    Reactor& reactor_;
};

}  // namespace dst::io::uring
