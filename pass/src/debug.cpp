// What LLVM's C API does not tell of debug information: names as they are in the source. Nothing is
// decided here.
#include "llvm/ADT/StringMap.h"
#include "llvm/BinaryFormat/Dwarf.h"
#include "llvm/IR/DebugInfo.h"
#include "llvm/IR/DebugInfoMetadata.h"
#include "llvm/IR/GlobalVariable.h"
#include "llvm/IR/Module.h"
#include <cstring>
#include <string>

using namespace llvm;

namespace {

std::string nameOf(const DIType *T, unsigned Depth = 0) {
  if (!T)
    return "void";
  if (Depth > 8)
    return "...";
  if (auto *D = dyn_cast<DIDerivedType>(T)) {
    std::string Base = D->getTag() == dwarf::DW_TAG_typedef ? "" : nameOf(D->getBaseType(), Depth + 1);
    switch (D->getTag()) {
    case dwarf::DW_TAG_pointer_type: return Base + (Base.back() == '*' ? "*" : " *");
    case dwarf::DW_TAG_const_type: return "const " + Base;
    case dwarf::DW_TAG_volatile_type: return "volatile " + Base;
    case dwarf::DW_TAG_atomic_type: return "_Atomic " + Base;
    case dwarf::DW_TAG_restrict_type: return Base;
    default: return D->getName().str();
    }
  }
  if (auto *C = dyn_cast<DICompositeType>(T)) {
    if (C->getTag() == dwarf::DW_TAG_array_type) {
      std::string Name = nameOf(C->getBaseType(), Depth + 1);
      for (auto *E : C->getElements())
        if (auto *R = dyn_cast<DISubrange>(E)) {
          auto *Count = dyn_cast_if_present<ConstantInt *>(R->getCount());
          Name += "[" + (Count && Count->getSExtValue() >= 0 ? std::to_string(Count->getSExtValue()) : "") + "]";
        }
      return Name;
    }
    std::string Kind = C->getTag() == dwarf::DW_TAG_union_type         ? "union "
                       : C->getTag() == dwarf::DW_TAG_enumeration_type ? "enum "
                                                                       : "struct ";
    return Kind + (C->getName().empty() ? "{...}" : C->getName().str());
  }
  if (isa<DISubroutineType>(T))
    return "function";
  return T->getName().str();
}

const DIType *bare(const DIType *T) {
  while (auto *D = dyn_cast_or_null<DIDerivedType>(T)) {
    auto Tag = D->getTag();
    if (Tag != dwarf::DW_TAG_typedef && Tag != dwarf::DW_TAG_const_type && Tag != dwarf::DW_TAG_volatile_type)
      return T;
    T = D->getBaseType();
  }
  return T;
}

} // namespace

extern "C" {

// Lines: file, line, name, type, function that it is local to. Null without debug information.
char *ame_debug_global(LLVMValueRef global) {
  SmallVector<DIGlobalVariableExpression *, 1> All;
  unwrap<GlobalVariable>(global)->getDebugInfo(All);
  if (All.empty())
    return nullptr;
  DIGlobalVariable *V = All[0]->getVariable();
  auto *Function = dyn_cast_or_null<DISubprogram>(V->getScope());
  auto *Block = dyn_cast_or_null<DILexicalBlockBase>(V->getScope());
  if (Block)
    Function = Block->getSubprogram();
  std::string Text = (V->getFilename() + "\n" + Twine(V->getLine()) + "\n" + V->getName() + "\n" +
                      nameOf(V->getType()) + "\n" + (Function ? Function->getName() : "")).str();
  return strdup(Text.c_str());
}

// Lines: file and line of a function's definition.
char *ame_debug_function(LLVMValueRef function) {
  auto *S = unwrap<Function>(function)->getSubprogram();
  return S ? strdup((S->getFilename() + "\n" + Twine(S->getLine())).str().c_str()) : nullptr;
}

// Lines: file of the struct's declaration, field at a byte offset (of nested structs, with dots). `name` as
// in IR, without `struct.`.
char *ame_debug_field(LLVMModuleRef module, const char *name, uint64_t offset) {
  DebugInfoFinder Finder;
  Finder.processModule(*unwrap(module));
  const DICompositeType *Found = nullptr;
  for (DIType *T : Finder.types()) {
    if (T->getName() != name)
      continue;
    auto *C = dyn_cast_or_null<DICompositeType>(bare(T));
    if (C && !C->isForwardDecl() && !C->getElements().empty())
      Found = C;
  }
  if (!Found)
    return nullptr;
  std::string Path, File = Found->getFilename().str();
  uint64_t Bit = offset * 8;
  for (unsigned Depth = 0; Found && Depth < 8; ++Depth) {
    const DIDerivedType *Best = nullptr;
    for (auto *E : Found->getElements())
      if (auto *M = dyn_cast<DIDerivedType>(E))
        if (M->getTag() == dwarf::DW_TAG_member && M->getOffsetInBits() <= Bit &&
            Bit < M->getOffsetInBits() + std::max<uint64_t>(M->getSizeInBits(), 1)) {
          Best = M;
          break;
        }
    if (!Best)
      break;
    if (!Best->getName().empty())
      Path += (Path.empty() ? "" : ".") + Best->getName().str();
    Bit -= Best->getOffsetInBits();
    Found = dyn_cast_or_null<DICompositeType>(bare(Best->getBaseType()));
    if (Found && Found->getTag() == dwarf::DW_TAG_array_type)
      Found = nullptr;
  }
  return Path.empty() ? nullptr : strdup((File + "\n" + Path).c_str());
}

// Folder of the compilation.
char *ame_debug_folder(LLVMModuleRef module) {
  for (DICompileUnit *Unit : unwrap(module)->debug_compile_units())
    return strdup(Unit->getDirectory().str().c_str());
  return nullptr;
}

} // extern "C"
