# Writes OUTPUT, a source that has the text of every FOLDER/NAME.toml (sim/scenario/library.h).
# A literal may have 64 KiB, which no scenario comes near.
file(GLOB files ${FOLDER}/*.toml)
list(SORT files)
set(entries "")
foreach(file IN LISTS files)
    cmake_path(GET file STEM name)
    file(READ ${file} text)
    string(APPEND entries "    {\"${name}\", R\"toml(${text})toml\"},\n")
endforeach()
file(WRITE ${OUTPUT} "#include \"sim/scenario/library.h\"

#include <array>

namespace dst::sim {

std::span<const LibraryEntry> library() {
    static constexpr auto kAll = std::to_array<LibraryEntry>({
${entries}    });
    return kAll;
}

}  // namespace dst::sim
")
