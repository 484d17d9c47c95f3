// Registers the two passes with LLVM's pass builder, and lends Rust the few things that LLVM's C
// API lacks. Nothing is decided here.
#include "llvm/ADT/APInt.h"
#include "llvm/ADT/SetVector.h"
#include "llvm/ADT/SmallPtrSet.h"
#include "llvm/IR/DataLayout.h"
#include "llvm/IR/DiagnosticInfo.h"
#include "llvm/IR/IRBuilder.h"
#include "llvm/IR/InstrTypes.h"
#include "llvm/IR/Instructions.h"
#include "llvm/IR/Metadata.h"
#include "llvm/IR/Module.h"
#include "llvm/IR/Operator.h"
#include "llvm/IR/PassManager.h"
#include "llvm/Passes/PassBuilder.h"
#include "llvm/Support/CBindingWrapping.h"
#include "llvm/Support/CommandLine.h"
#include "llvm/Support/ErrorHandling.h"
#include "llvm/Transforms/Utils/Cloning.h"
#include "llvm/Transforms/Utils/Local.h"
#include "llvm/Transforms/Utils/Mem2Reg.h"
#include "llvm/Transforms/Utils/ModuleUtils.h"
#include "llvm/Transforms/Utils/ValueMapper.h"
#include <string>

using namespace llvm;

// Rust, plugin.rs: true when the module was changed.
extern "C" bool ame_pass_run(LLVMModuleRef module, bool tag);
// Whether the compilation is for `ame ext check`.
extern "C" bool ame_pass_checks();

static cl::opt<std::string> Annotations("ame-annotations", cl::desc("Ame: annotation sets, path[:path]"));
static cl::opt<std::string> Opt("ame-opt", cl::desc("Ame: optimisations to switch off, -name[,-name]"));
static cl::opt<std::string> Stats("ame-stats", cl::desc("Ame: file for statistics, JSON lines"));
static cl::opt<std::string> Remarks("ame-remarks", cl::desc("Ame: file for remarks, JSON lines"));
static cl::opt<std::string> Extension("ame-extension", cl::desc("Ame: free-threaded: files without Python.h stay plain"));
static cl::opt<bool> Warn("ame-warn", cl::desc("Ame: warn about unsupported constructs"));

namespace {
template <bool Tag> struct AmePass : PassInfoMixin<AmePass<Tag>> {
  PreservedAnalyses run(Module &M, ModuleAnalysisManager &) {
    return ame_pass_run(wrap(&M), Tag) ? PreservedAnalyses::none() : PreservedAnalyses::all();
  }
  static bool isRequired() { return true; }
};
} // namespace

extern "C" {

void ame_shim_register(void *builder) {
  auto &PB = *static_cast<PassBuilder *>(builder);
  PB.registerPipelineStartEPCallback(
      [](ModulePassManager &MPM, OptimizationLevel) {
        // The check follows values, which are in local variables yet.
        if (ame_pass_checks())
          MPM.addPass(createModuleToFunctionPassAdaptor(PromotePass()));
        MPM.addPass(AmePass<true>());
      });
  PB.registerOptimizerLastEPCallback(
      [](ModulePassManager &MPM, OptimizationLevel) { MPM.addPass(AmePass<false>()); });
  PB.registerPipelineParsingCallback(
      [](StringRef Name, ModulePassManager &MPM, ArrayRef<PassBuilder::PipelineElement>) {
        if (Name == "ame-tag")
          MPM.addPass(AmePass<true>());
        else if (Name == "ame-instrument")
          MPM.addPass(AmePass<false>());
        else
          return false;
        return true;
      });
}

const char *ame_shim_option(int which) {
  switch (which) {
  case 0: return Annotations.c_str();
  case 1: return Opt.c_str();
  case 2: return Stats.c_str();
  case 3: return Remarks.c_str();
  case 4: return Warn ? "1" : "";
  default: return Extension.c_str();
  }
}

void ame_shim_fatal(const char *message) { report_fatal_error(message, /*gen_crash_diag=*/false); }

void ame_shim_diagnose(LLVMValueRef function, LLVMValueRef instruction, const char *message, bool error) {
  auto &F = *unwrap<Function>(function);
  DebugLoc Loc = instruction ? unwrap<Instruction>(instruction)->getDebugLoc() : DebugLoc();
  F.getContext().diagnose(
      DiagnosticInfoUnsupported(F, message, Loc, error ? DS_Error : DS_Warning));
}

LLVMBasicBlockRef ame_shim_split(LLVMValueRef at) {
  auto *I = unwrap<Instruction>(at);
  return wrap(I->getParent()->splitBasicBlock(I->getIterator()));
}

void ame_shim_move_before(LLVMValueRef instruction, LLVMValueRef at) {
  unwrap<Instruction>(instruction)->moveBefore(unwrap<Instruction>(at));
}

LLVMValueRef ame_shim_first_insertion_point(LLVMBasicBlockRef block) {
  auto *B = unwrap(block);
  auto It = B->getFirstInsertionPt();
  return It == B->end() ? nullptr : wrap(&*It);
}

bool ame_shim_constant_offset(LLVMModuleRef module, LLVMValueRef gep, int64_t *offset) {
  auto *G = cast<GEPOperator>(unwrap(gep));
  const DataLayout &DL = unwrap(module)->getDataLayout();
  APInt Sum(DL.getIndexTypeSizeInBits(G->getType()), 0);
  if (!G->accumulateConstantOffset(DL, Sum))
    return false;
  *offset = Sum.getSExtValue();
  return true;
}

bool ame_shim_no_capture(LLVMValueRef call, unsigned argument) {
  return unwrap<CallBase>(call)->doesNotCapture(argument);
}

// Two bits (read, write) for: argument memory, inaccessible memory, other memory.
uint32_t ame_shim_memory_effects(LLVMValueRef function) {
  auto E = unwrap<Function>(function)->getMemoryEffects();
  return unsigned(E.getModRef(IRMemLocation::ArgMem)) |
         unsigned(E.getModRef(IRMemLocation::InaccessibleMem)) << 2 |
         unsigned(E.getModRef(IRMemLocation::Other)) << 4;
}

uint64_t ame_shim_pointer_alignment(LLVMValueRef pointer, LLVMModuleRef module) {
  return unwrap(pointer)->getPointerAlignment(unwrap(module)->getDataLayout()).value();
}

bool ame_shim_interposable(LLVMValueRef global) { return unwrap<GlobalValue>(global)->isInterposable(); }

// Before optimisation the table of a computed goto need not be constant.
static bool isOnlyRead(Value *V) {
  if (auto *G = dyn_cast<GlobalVariable>(V); G && G->isConstant())
    return true;
  return all_of(V->users(), [](User *U) {
    return isa<LoadInst>(U) || (isa<GEPOperator>(U) && isOnlyRead(U));
  });
}

// The optimiser deletes the function or changes its arguments no more than if assembly called it.
void ame_shim_keep(LLVMValueRef function) {
  auto *F = unwrap<Function>(function);
  appendToCompilerUsed(*F->getParent(), {F});
}

// Null when something outside of the function knows addresses of its labels.
LLVMValueRef ame_shim_clone_function(LLVMValueRef function) {
  auto *F = unwrap<Function>(function);
  // Tables of label addresses (computed goto) belong to the body and are copied with it.
  SmallVector<Constant *, 64> Work;
  for (BasicBlock &B : *F)
    if (B.hasAddressTaken())
      Work.push_back(BlockAddress::get(F, &B));
  SmallSetVector<GlobalVariable *, 4> Tables;
  SmallPtrSet<Constant *, 32> Seen(Work.begin(), Work.end());
  while (!Work.empty())
    for (User *U : Work.pop_back_val()->users()) {
      if (auto *I = dyn_cast<Instruction>(U)) {
        if (I->getFunction() != F)
          return nullptr;
        continue;
      }
      if (auto *G = dyn_cast<GlobalVariable>(U)) {
        if (!G->hasLocalLinkage() || !isOnlyRead(G))
          return nullptr;
        Tables.insert(G);
      }
      auto *C = dyn_cast<Constant>(U);
      if (!C || (isa<GlobalValue>(C) && !isa<GlobalVariable>(C)))
        return nullptr;
      if (Seen.insert(C).second)
        Work.push_back(C);
    }
  ValueToValueMapTy Map;
  for (GlobalVariable *G : Tables) {
    auto *Copy = new GlobalVariable(*F->getParent(), G->getValueType(), true, G->getLinkage(),
                                    nullptr, G->getName(), nullptr, G->getThreadLocalMode());
    Copy->copyAttributesFrom(G);
    Map[G] = Copy;
  }
  Function *Clone = CloneFunction(F, Map);
  for (GlobalVariable *G : Tables)
    cast<GlobalVariable>(&*Map[G])->setInitializer(MapValue(G->getInitializer(), Map));
  return wrap(Clone);
}

// A new function without a body takes the function's name, linkage and uses; addresses of labels
// stay with the body, which becomes internal.
LLVMValueRef ame_shim_take_place(LLVMValueRef function, const char *suffix) {
  auto *F = unwrap<Function>(function);
  auto *D = Function::Create(F->getFunctionType(), F->getLinkage(), F->getAddressSpace());
  F->getParent()->getFunctionList().insert(F->getIterator(), D);
  D->copyAttributesFrom(F);
  D->setComdat(F->getComdat());
  D->setPersonalityFn(nullptr);
  std::string Name = F->getName().str();
  D->takeName(F);
  F->setName(Name + suffix);
  F->setComdat(nullptr);
  F->setVisibility(GlobalValue::DefaultVisibility);
  F->setDLLStorageClass(GlobalValue::DefaultStorageClass);
  F->setLinkage(GlobalValue::InternalLinkage);
  F->setDSOLocal(true);
  F->replaceUsesWithIf(D, [](Use &U) { return !isa<BlockAddress>(U.getUser()); });
  return wrap(D);
}

// Where the builder stands: a call with the current function's own arguments, passed as they came.
LLVMValueRef ame_shim_forward_call(LLVMBuilderRef builder, LLVMValueRef callee) {
  auto &B = *unwrap(builder);
  auto *C = unwrap<Function>(callee);
  SmallVector<Value *, 8> Arguments;
  for (Argument &A : B.GetInsertBlock()->getParent()->args())
    Arguments.push_back(&A);
  CallInst *Call = B.CreateCall(C, Arguments);
  AttributeList All = C->getAttributes();
  SmallVector<AttributeSet, 8> Parameters;
  for (unsigned I = 0; I < Arguments.size(); ++I)
    Parameters.push_back(All.getParamAttrs(I));
  Call->setAttributes(
      AttributeList::get(C->getContext(), AttributeSet(), All.getRetAttrs(), Parameters));
  Call->setCallingConv(C->getCallingConv());
  return wrap(Call);
}

// The same as a guaranteed tail call, and its return.
void ame_shim_tail_call(LLVMBuilderRef builder, LLVMValueRef callee) {
  auto &B = *unwrap(builder);
  auto *Call = unwrap<CallInst>(ame_shim_forward_call(builder, callee));
  Call->setTailCallKind(CallInst::TCK_MustTail);
  if (Call->getType()->isVoidTy())
    B.CreateRetVoid();
  else
    B.CreateRet(Call);
}

// Access groups: unlike metadata of our own, the optimiser keeps them when it merges equal accesses,
// and drops them when they differ. Group n is operand n of the module's !ame.groups.
void ame_shim_set_group(LLVMValueRef access, unsigned group) {
  auto *I = unwrap<Instruction>(access);
  auto *Groups = I->getModule()->getOrInsertNamedMetadata("ame.groups");
  while (Groups->getNumOperands() <= group)
    Groups->addOperand(MDNode::getDistinct(I->getContext(), {}));
  I->setMetadata(LLVMContext::MD_access_group, Groups->getOperand(group));
}

int ame_shim_group(LLVMValueRef access) {
  auto *I = unwrap<Instruction>(access);
  auto *Group = I->getMetadata(LLVMContext::MD_access_group);
  auto *Groups = Group ? I->getModule()->getNamedMetadata("ame.groups") : nullptr;
  for (unsigned N = 0; Groups && N < Groups->getNumOperands(); N++)
    if (Groups->getOperand(N) == Group)
      return N;
  return -1;
}

void ame_shim_append_constructor(LLVMModuleRef module, LLVMValueRef function, int priority) {
  appendToGlobalCtors(*unwrap(module), unwrap<Function>(function), priority);
}

// Lists of the compiler, such as llvm.used and llvm.global_ctors, and what only they refer to.
static bool isOfCompiler(User *U) {
  if (auto *G = dyn_cast<GlobalVariable>(U))
    return G->getName().starts_with("llvm.");
  return isa<Constant>(U) && !isa<GlobalValue>(U) && !U->user_empty() && all_of(U->users(), isOfCompiler);
}

// Whether a use of a function lets others call it later.
static bool givesAddress(Use &U) {
  User *By = U.getUser();
  if (auto *Call = dyn_cast<CallBase>(By); Call && Call->isCallee(&U))
    return false;
  return !isa<BlockAddress>(By) && !isa<GlobalAlias>(By) && !isa<GlobalIFunc>(By) &&
         !isa<Function>(By) && !isOfCompiler(By);
}

bool ame_shim_address_taken(LLVMValueRef function) {
  auto *F = unwrap<Function>(function);
  // Initial values that have been replaced live on as constants that nobody uses.
  F->removeDeadConstantUsers();
  return any_of(F->uses(), givesAddress);
}

// Whether its address stands in initial values of structs with these names, and nowhere else.
bool ame_shim_only_in_structs(LLVMValueRef function, const char *const *names, size_t n) {
  return all_of(unwrap<Function>(function)->uses(), [&](Use &U) {
    if (!givesAddress(U))
      return true;
    auto *S = dyn_cast<ConstantStruct>(U.getUser());
    return S && !S->getType()->isLiteral() &&
           any_of(ArrayRef(names, n), [&](StringRef Name) { return S->getType()->getName() == Name; });
  });
}

void ame_shim_replace_addresses(LLVMValueRef function, LLVMValueRef by) {
  unwrap<Function>(function)->replaceUsesWithIf(unwrap(by), givesAddress);
}

// All uses but those in functions whose name starts with the prefix.
void ame_shim_replace_outside(LLVMValueRef function, LLVMValueRef by, const char *prefix) {
  unwrap<Function>(function)->replaceUsesWithIf(unwrap(by), [&](Use &U) {
    auto *I = dyn_cast<Instruction>(U.getUser());
    return !I || !I->getFunction()->getName().starts_with(prefix);
  });
}

// A constant in which structs named `type` have `by` as their field `index`, where that was `function`; with
// a key not negative only those whose first field is the key. Others are returned as they are.
static Constant *withField(Constant *C, StringRef Type, unsigned Index, int64_t Key, Constant *Old,
                           Constant *By) {
  auto *A = dyn_cast<ConstantAggregate>(C);
  if (!A)
    return C;
  SmallVector<Constant *, 32> Fields;
  bool Changed = false;
  auto *S = dyn_cast<StructType>(A->getType());
  bool Matches = S && !S->isLiteral() && S->getName() == Type && Index < A->getNumOperands();
  if (Matches && Key >= 0) {
    auto *First = dyn_cast<ConstantInt>(A->getOperand(0));
    Matches = First && First->getSExtValue() == Key;
  }
  for (unsigned I = 0; I < A->getNumOperands(); I++) {
    Constant *Was = A->getOperand(I);
    Constant *Now = Matches && I == Index && Was == Old ? By : withField(Was, Type, Index, Key, Old, By);
    Changed |= Now != Was;
    Fields.push_back(Now);
  }
  if (!Changed)
    return C;
  if (S)
    return ConstantStruct::get(S, Fields);
  if (auto *T = dyn_cast<ArrayType>(A->getType()))
    return ConstantArray::get(T, Fields);
  return C;
}

bool ame_shim_replace_field(LLVMModuleRef module, const char *type, unsigned index, int64_t key,
                            LLVMValueRef function, LLVMValueRef by) {
  bool Changed = false;
  for (GlobalVariable &G : unwrap(module)->globals()) {
    if (!G.hasInitializer())
      continue;
    Constant *Was = G.getInitializer();
    Constant *Now =
        withField(Was, type, index, key, unwrap<Constant>(function), unwrap<Constant>(by));
    if (Now != Was) {
      G.setInitializer(Now);
      Changed = true;
    }
  }
  return Changed;
}

// For a function that does not throw.
LLVMValueRef ame_shim_invoke_to_call(LLVMValueRef invoke) {
  return wrap(changeToCall(unwrap<InvokeInst>(invoke)));
}

} // extern "C"
