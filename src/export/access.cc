#include "export/access.h"

namespace dst::exporter {

Access access_of(const std::vector<AccessRule>& rules, const io::Address& peer) {
    for (const AccessRule& rule : rules)
        if (rule.from.contains(peer)) return rule.access;
    return Access::none;
}

}  // namespace dst::exporter
