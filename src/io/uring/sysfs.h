// What the kernel tells of a block device in /sys. Blocks.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <string>

namespace dst::io::uring {

/// The content of a small text file without the white space around it; empty if it can't be read.
[[nodiscard]] std::string read_text(const std::string& path);

class BlockDeviceFolder {
  public:
    explicit BlockDeviceFolder(dev_t device);

    /// An attribute of the device itself (of the partition, if it is one).
    [[nodiscard]] std::string attribute(const std::string& name) const {
        return read_text(folder_ + name);
    }
    /// An attribute of the whole disk.
    [[nodiscard]] std::string disk_attribute(const std::string& name) const {
        return read_text(folder_ + (is_partition_ ? "../" : "") + name);
    }
    /// A limit of the disk's queue; 0 if it is not told.
    [[nodiscard]] std::uint64_t queue_limit(const std::string& name) const;
    [[nodiscard]] bool is_partition() const { return is_partition_; }

  private:
    std::string folder_;
    bool is_partition_ = false;
};

}  // namespace dst::io::uring
