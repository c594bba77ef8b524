# src_ext/dkcore.h, for Cython.
from libc.stdint cimport int32_t, int64_t, uint32_t, uint64_t

cdef extern from "dkcore.h" nogil:
    enum: DK_HISTOGRAM
    enum: DK_MAX_VECTORS
    enum: DK_MAX_SCALARS
    enum: DK_OUTSIDE
    enum: DK_CENTER
    enum: DK_WORKER
    enum: DK_PREVIOUS
    enum: DK_STATE

    ctypedef enum dk_status:
        DK_OK
        DK_INVALID
        DK_SYSTEM
        DK_NO_ROOM
        DK_EXISTS
        DK_NOT_FOUND
        DK_LAYOUT
        DK_TIMEOUT
        DK_FULL
        DK_NOT_FINITE
        DK_BROKEN
        DK_NAMESPACE
        DK_BUSY
        DK_INTERRUPTED

    int dk_errno()
    const char *dk_error()

    ctypedef int (*dk_listener)() noexcept
    void dk_listen(dk_listener listener)

    ctypedef void (*dk_kernel)(size_t n, void *const *vectors, const double *scalars)
    ctypedef size_t (*dk_looking)(size_t n, void *const *vectors, const double *scalars)
    dk_looking dk_looking_find(const char *rule, const char *dtype, const char *isa)
    dk_kernel dk_kernel_find(const char *rule, const char *dtype, const char *isa)
    const char *dk_isa_at(size_t index)
    int dk_isa_runs(const char *isa)
    const char *dk_isa_best()

    ctypedef struct dk_layout:
        uint64_t length
        uint64_t stripe_length
        uint64_t digest
        uint64_t statistics
        uint32_t itemsize
        uint32_t states
        uint32_t slots
        uint32_t undo

    ctypedef struct dk_center:
        pass
    ctypedef struct dk_worker:
        pass

    dk_status dk_center_create(const char *name, const dk_layout *layout, const void *initial, const char *note, dk_center **out)
    dk_status dk_center_attach(const char *name, const dk_layout *expected, double timeout_s, dk_center **out)
    dk_status dk_center_close(dk_center *center)
    dk_status dk_center_release_workers(dk_center *center)
    void dk_center_free(dk_center *center)
    dk_status dk_center_layout(const dk_center *center, dk_layout *out)
    const char *dk_center_note(const dk_center *center)
    uint64_t dk_center_stripes(const dk_center *center)
    void *dk_center_vector(dk_center *center, uint32_t index)
    dk_status dk_center_snapshot(dk_center *center, uint32_t vector, void *out, double timeout_s)
    dk_status dk_center_restore(dk_center *center, uint32_t vector, const void *data, double timeout_s)
    dk_status dk_center_versions(dk_center *center, uint64_t *out)

    ctypedef struct dk_counts:
        uint32_t live
        uint32_t deaths
        uint64_t recovered
        uint64_t undone
        uint64_t kept
        uint64_t elements
    dk_status dk_center_counts(dk_center *center, dk_counts *out)
    dk_status dk_segment_sweep(const char *name, int *removed)

    ctypedef struct dk_place:
        uint64_t epoch
        uint64_t step
        uint64_t steps
        uint64_t samples

    ctypedef struct dk_slot_view:
        uint32_t state
        int32_t pid
        int64_t rank
        double started
        double heartbeat
        uint64_t exchanges
        uint64_t steps
        uint64_t samples
        uint64_t epoch
        uint64_t total_samples
        double loss
        double exchange_seconds
        double staleness_sum
        uint64_t histogram[64]
        dk_place place
        dk_place next
        uint64_t begun
        uint64_t stripes_in
        uint64_t in_part

    dk_status dk_worker_claim(dk_center *center, int64_t rank, dk_worker **out)
    dk_status dk_worker_release(dk_worker *worker)
    void dk_worker_free(dk_worker *worker)
    dk_status dk_worker_check(const dk_worker *worker, int idle)
    uint32_t dk_worker_slot(const dk_worker *worker)
    dk_status dk_worker_place(dk_worker *worker, const dk_place *place)
    dk_status dk_worker_resume(dk_worker *worker, uint64_t exchanges, const dk_place *place)
    dk_status dk_worker_report(dk_worker *worker, uint64_t steps, uint64_t samples, uint64_t epoch, uint64_t total_samples,
                               double loss)
    dk_status dk_center_slot(dk_center *center, uint32_t slot, dk_slot_view *out)

    ctypedef struct dk_statistic:
        uint64_t length
        dk_kernel kernel
        dk_looking looking
        void *held
        int32_t in_rounds
        double sharers

    ctypedef struct dk_call:
        dk_worker *worker
        dk_kernel kernel
        dk_looking looking
        void *previous
        int32_t vectors
        int32_t role[8]
        uint32_t only_read
        int32_t hands_in
        int32_t staleness_at
        int32_t workers_at
        dk_status status
        double scalars[16]
        dk_statistic statistic
        double timeout_s
        uint64_t max_ahead
        int32_t bounded
        double patience_s
        uint64_t settles
        double staleness
        double seconds
        uint64_t bad_element
        char message[512]

    ctypedef struct dk_pass:
        dk_kernel kernel
        int32_t vectors
        int32_t role[8]
        uint32_t only_read
        void *outside[8]
        double scalars[16]
        uint64_t first
        uint64_t end
        uint64_t begin
        uint64_t until
        uint64_t *versions
        uint64_t *raise_ "raise"
        uint64_t *arrivals
        uint64_t *taken
        double timeout_s

    ctypedef struct dk_pulse:
        uint32_t live
        uint32_t waiting
        uint64_t slowest
        char rule[128]

    ctypedef struct dk_gate_view:
        uint32_t members
        uint32_t arrived

    dk_status dk_center_pass(dk_center *center, const dk_pass *pass_)
    dk_status dk_center_break(dk_center *center, const char *reason)
    dk_status dk_center_check(dk_center *center)
    dk_status dk_center_others(dk_center *center, uint32_t workers, uint64_t slowest)
    dk_status dk_center_declare(dk_center *center, const char *rule)
    dk_status dk_center_pulse(dk_center *center, dk_pulse *out)
    dk_status dk_gate_members(dk_center *center, uint32_t gate, int32_t change, int absolute)
    dk_status dk_gate_arrive(dk_center *center, uint32_t gate, uint32_t *ticket)
    dk_status dk_gate_wait(dk_center *center, uint32_t gate, uint32_t ticket, double timeout_s)
    dk_status dk_gate_await(dk_center *center, uint32_t gate, double timeout_s, dk_gate_view *out)
    dk_status dk_gate_open(dk_center *center, uint32_t gate, uint32_t arrived)
    dk_status dk_member_reach(dk_center *center, uint32_t member, uint32_t phase)
    dk_status dk_member_await(dk_center *center, uint32_t first, uint32_t end, uint32_t phase, double timeout_s, uint32_t *slowest)

    ctypedef struct dk_tickets:
        uint64_t first
        uint64_t count

    ctypedef struct dk_leases:
        uint64_t batches
        uint64_t next
        uint64_t held
        uint64_t waiting
        uint64_t returned
        uint64_t doubtful
        uint32_t under_way
        uint32_t open
        uint32_t busy

    dk_status dk_lease_open(dk_center *center, uint64_t batches)
    dk_status dk_lease_take(dk_worker *worker, uint64_t most, uint64_t until, dk_tickets *out)
    dk_status dk_lease_resume(dk_worker *worker, uint64_t first, uint64_t count)
    dk_status dk_lease_look(dk_center *center, dk_leases *out)
    dk_status dk_lease_await(dk_center *center, uint64_t until, double timeout_s, dk_leases *out)
    dk_status dk_lease_unsettled(dk_center *center, dk_tickets *out, uint64_t room, uint64_t *count, dk_leases *leases)
    dk_status dk_lease_restore(dk_center *center, uint64_t batches, uint64_t next, const dk_tickets *waiting, uint64_t count)

    dk_status dk_exchange(dk_call *call, size_t segments, void *const *addresses, const uint64_t *lengths)
    dk_status dk_pull(dk_call *call, size_t segments, void *const *addresses, const uint64_t *lengths)

    ctypedef enum dk_codec:
        DK_CODEC_NONE
        DK_CODEC_BF16
        DK_CODEC_FP16
        DK_CODEC_INT8
        DK_CODEC_TOPK
    uint64_t dk_codec_bytes(dk_codec kind, uint32_t itemsize, double fraction, uint64_t n)
    dk_status dk_encode(dk_codec kind, uint32_t itemsize, double fraction, uint64_t n, void *values, void *residual, void *bytes)
    dk_status dk_decode(dk_codec kind, uint32_t itemsize, double fraction, uint64_t n, const void *bytes, void *values)
    dk_status dk_decode_add(dk_codec kind, uint32_t itemsize, double fraction, uint64_t n, const void *bytes, void *values)

    ctypedef struct dk_range:
        void *begin
        uint64_t bytes
    dk_status dk_range_reserve(uint64_t bytes, dk_range *out)
    dk_status dk_range_map(const dk_range *range, uint64_t at, int fd, uint64_t bytes)
    void dk_range_free(dk_range *range)
