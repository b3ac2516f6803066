/* plugin_host PLUGIN: a program without the C++ runtime library until it opens a plug-in. */
#include <dlfcn.h>
#include <stdio.h>

int main(int argc, char** argv)
{
    void* const plugin = argc == 2 ? dlopen(argv[1], RTLD_NOW | RTLD_LOCAL) : NULL;
    if (plugin == NULL) {
        fprintf(stderr, "%s\n", dlerror());
        return 1;
    }
    int (*run)(void);
    *(void**)&run = dlsym(plugin, "run_plugin");
    return run == NULL ? 1 : run();
}
