// op.cc: lets a plain C function edit TensorFlow variables where they lie.
//
// TensorFlow moves a variable's buffer whenever it likes (a quarter to a half of the intervals between two exchanges
// saw one move), so addresses found in Python are stale. This op finds them under the variables' own locks, keeps the
// locks while the function runs, and copies first where somebody else still looks at the old value.
//
// The function comes as an address: the op does not link the engine, so one compiled op serves every version of it.

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <vector>

#include "absl/strings/str_cat.h"
#include "tensorflow/core/framework/op.h"
#include "tensorflow/core/framework/op_kernel.h"
#include "tensorflow/core/framework/resource_mgr.h"
#include "tensorflow/core/framework/resource_var.h"
#include "tensorflow/core/framework/shape_inference.h"

namespace dkcore {
namespace {

using absl::FailedPreconditionError;
using absl::InvalidArgumentError;
using absl::StrCat;
using tensorflow::DataType;
using tensorflow::OpKernel;
using tensorflow::OpKernelConstruction;
using tensorflow::OpKernelContext;
using tensorflow::ResourceHandle;
using tensorflow::Tensor;
using tensorflow::TensorShape;
using tensorflow::Var;
using tensorflow::core::RefCountPtr;

using Function = int64_t (*)(void *call, int64_t n, void *const *addresses, const uint64_t *lengths);

// One tensor of handles, and no list of them: as separate inputs they cost TensorFlow 1 us each. target is an input and
// no attribute, because TensorFlow keeps one kernel for each value of the attributes, for ever.
REGISTER_OP("DkcoreRun")
    .Input("handles: resource")
    .Input("target: int64")
    .Output("status: int64")
    .Attr("T: {float, double}")
    .SetIsStateful()
    .SetShapeFn([](tensorflow::shape_inference::InferenceContext *context) {
        context->set_output(0, context->Scalar());
        return absl::OkStatus();
    })
    .Doc(R"doc(
Calls int64 function(call, n, addresses, lengths) on the buffers of n variables, in the order of handles.

handles: the n variables' handles, packed; all of dtype T and initialised.
target: the addresses of the function and of its first argument.
status: what the function returned.
)doc");

// All mutexes of the variables, each once, in the order of their addresses: the order that TensorFlow itself keeps.
class Locks {
  public:
    explicit Locks(const std::vector<RefCountPtr<Var>> &variables) {
        mutexes_.reserve(variables.size());
        for (const auto &variable : variables) mutexes_.push_back(variable->mu());
        std::sort(mutexes_.begin(), mutexes_.end());
        mutexes_.erase(std::unique(mutexes_.begin(), mutexes_.end()), mutexes_.end());
        for (tensorflow::mutex *mutex : mutexes_) mutex->lock();
    }
    ~Locks() {
        for (tensorflow::mutex *mutex : mutexes_) mutex->unlock();
    }
    Locks(const Locks &) = delete;
    Locks &operator=(const Locks &) = delete;

  private:
    std::vector<tensorflow::mutex *> mutexes_;
};

class Run : public OpKernel {
  public:
    explicit Run(OpKernelConstruction *construction) : OpKernel(construction) {
        OP_REQUIRES_OK(construction, construction->GetAttr("T", &dtype_));
    }

    void Compute(OpKernelContext *context) override {
        const Tensor &target = context->input(1);
        OP_REQUIRES(context, target.NumElements() == 2,
                    InvalidArgumentError(StrCat("Expected 2 addresses. Received: ", target.NumElements(), ".")));
        const auto function = reinterpret_cast<Function>(target.flat<int64_t>()(0));
        void *const call = reinterpret_cast<void *>(target.flat<int64_t>()(1));
        OP_REQUIRES(context, function != nullptr, InvalidArgumentError("Expected a function's address. Received: 0."));

        std::vector<RefCountPtr<Var>> variables;
        OP_REQUIRES_OK(context, Find(context, &variables));
        std::vector<void *> addresses;
        std::vector<uint64_t> lengths;
        addresses.reserve(variables.size());
        lengths.reserve(variables.size());
        Tensor *status = nullptr;
        OP_REQUIRES_OK(context, context->allocate_output(0, TensorShape({}), &status));

        const Locks locks(variables);
        for (const auto &variable : variables) {
            OP_REQUIRES_OK(context, Own(context, variable.get()));
            addresses.push_back(variable->tensor()->data());
            lengths.push_back(static_cast<uint64_t>(variable->tensor()->NumElements()));
        }
        status->scalar<int64_t>()() =
            function(call, static_cast<int64_t>(addresses.size()), addresses.data(), lengths.data());
    }

  private:
    static absl::Status Find(OpKernelContext *context, std::vector<RefCountPtr<Var>> *variables) {
        const auto handles = context->input(0).flat<ResourceHandle>();
        variables->resize(handles.size());
        for (int64_t i = 0; i < handles.size(); ++i) {
            TF_RETURN_IF_ERROR(tensorflow::LookupResource(context, handles(i), &(*variables)[i]));
        }
        return absl::OkStatus();
    }

    // Whoever holds another reference to the buffer (a value that was read, an average that was assigned) was promised
    // that it does not change: such a variable gets a buffer of its own first.
    absl::Status Own(OpKernelContext *context, Var *variable) const {
        Tensor *tensor = variable->tensor();
        if (!variable->is_initialized) {
            return FailedPreconditionError(
                StrCat("Expected initialised variables. Received: ", variable->DebugString(), "."));
        }
        if (tensor->dtype() != dtype_) {
            return InvalidArgumentError(StrCat("Expected variables of dtype ", tensorflow::DataTypeString(dtype_),
                                               ". Received: ", variable->DebugString(), "."));
        }
        if (tensor->RefCountIsOne()) return absl::OkStatus();
        Tensor copy;
        tensorflow::AllocatorAttributes attributes;  // as TensorFlow's own copy-on-write asks for
        attributes.set_gpu_compatible(true);
        attributes.set_nic_compatible(true);
        TF_RETURN_IF_ERROR(context->allocate_temp(dtype_, tensor->shape(), &copy, attributes));
        std::memcpy(copy.data(), tensor->data(), tensor->TotalBytes());
        *tensor = copy;
        return absl::OkStatus();
    }

    DataType dtype_;
};

// No kernel for other devices: the engine edits host memory.
REGISTER_KERNEL_BUILDER(Name("DkcoreRun").Device(tensorflow::DEVICE_CPU), Run);

}  // namespace
}  // namespace dkcore
