// A pass plugin for the tests of `ame cc`: it marks each module it has seen with a global variable
// that holds what it was told, so that a test can ask an object file whether and how it was compiled.
#include "llvm/IR/Constants.h"
#include "llvm/IR/DebugInfoMetadata.h"
#include "llvm/IR/Module.h"
#include "llvm/Passes/PassBuilder.h"
#include "llvm/Passes/PassPlugin.h"
#include "llvm/Transforms/Utils/ModuleUtils.h"
#include <cstdlib>
#include <fstream>

using namespace llvm;

namespace {
std::string variable(const char *name) {
    const char *value = std::getenv(name);
    return std::string(name) + "=" + (value ? value : "") + ";";
}

struct Mark : PassInfoMixin<Mark> {
    PreservedAnalyses run(Module &module, ModuleAnalysisManager &) {
        std::string text = STUB_VERSION ";" + variable("AME_ANNOTATIONS") + variable("AME_PASS_OPT");
        auto *value = ConstantDataArray::getString(module.getContext(), text);
        auto *mark = new GlobalVariable(module, value->getType(), true, GlobalValue::InternalLinkage,
                                        value, "ame_stub_mark");
        // As the real one, each module needs the runtime.
        auto *type = FunctionType::get(Type::getVoidTy(module.getContext()), false);
        auto *callee = cast<Constant>(module.getOrInsertFunction("ame_module_register", type).getCallee());
        auto *need = new GlobalVariable(module, callee->getType(), false, GlobalValue::InternalLinkage,
                                        callee, "ame_stub_need");
        appendToUsed(module, {mark, need});
        if (const char *file = std::getenv("AME_PASS_STATS"))
            std::ofstream(file) << "{}\n";
        if (const char *file = std::getenv("AME_PASS_REMARKS")) {
            std::ofstream out(file, std::ios::app);
            for (Function &function : module)
                if (DISubprogram *place = function.getSubprogram())
                    out << "{\"module\":\"m\",\"function\":\"" << function.getName().str()
                        << "\",\"file\":\"" << place->getFilename().str() << "\",\"line\":"
                        << place->getLine() << ",\"access\":\"write\",\"rule\":\"barrier\","
                        << "\"detail\":\"write barrier\"}\n";
        }
        return PreservedAnalyses::none();
    }
    static bool isRequired() { return true; }
};
} // namespace

extern "C" PassPluginLibraryInfo llvmGetPassPluginInfo() {
    return {LLVM_PLUGIN_API_VERSION, "ame-stub", "1", [](PassBuilder &builder) {
                builder.registerOptimizerLastEPCallback(
                    [](ModulePassManager &manager, OptimizationLevel) { manager.addPass(Mark()); });
            }};
}
