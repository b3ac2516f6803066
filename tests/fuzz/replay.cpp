// Runs a fuzz target on files, where there is no libFuzzer:
//   replay FILE-OR-DIRECTORY ...
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <vector>

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size);

namespace {

void run(const std::filesystem::path& path)
{
    std::ifstream file(path, std::ios::binary);
    const std::vector<char> bytes{std::istreambuf_iterator<char>(file), {}};
    if (!file || bytes.empty()) {
        std::fprintf(stderr, "replay: cannot read %s\n", path.string().c_str());
        std::exit(1);
    }
    std::printf("%s\n", path.string().c_str());
    std::fflush(stdout); // the last line names the file that failed
    LLVMFuzzerTestOneInput(reinterpret_cast<const std::uint8_t*>(bytes.data()), bytes.size());
}

} // namespace

int main(int argument_count, char** arguments)
{
    std::size_t count = 0;
    for (int i = 1; i < argument_count; ++i) {
        if (!std::filesystem::is_directory(arguments[i])) {
            run(arguments[i]);
            ++count;
            continue;
        }
        for (const auto& entry : std::filesystem::directory_iterator(arguments[i])) {
            run(entry.path());
            ++count;
        }
    }
    std::printf("replay: %zu files\n", count);
    return count > 0 ? 0 : 1;
}
