"""Flux: durable workflows on any cloud's functions, with state in your own store and no server."""

from flux_core.audit import AuditEntry
from flux_core.builder import FlowBuilder, WorkflowBuilder, compensation, create_workflow, flow
from flux_core.context import Context
from flux_core.data import Data
from flux_core.directives import FAIL, NOT_DONE, UNKNOWN, Directive, Done, sleep, sleep_until, verify, wait, wait_any
from flux_core.engine import FluxEngine
from flux_core.errors import (
    CallerError,
    ChildFailed,
    Conflict,
    CorruptRecord,
    DefinitionError,
    FluxError,
    ImportUnfinished,
    InputInvalid,
    InputMutated,
    InvocationError,
    LeaseLost,
    LoopLimit,
    NonRetryable,
    NotFound,
    Refused,
    SecretExposed,
    SecretsNotConfigured,
    SecretUnavailable,
    StepFault,
    StepTimeout,
    StorageUnavailable,
    Unknown,
    UnknownInstance,
    UnknownSecret,
    UnknownStep,
    UnknownWorkflow,
    Unserialisable,
    WaitTimeout,
    WorkflowFailed,
    WriteConflict,
)
from flux_core.logger import FluxConsoleLogger, FluxSilentLogger
from flux_core.machine import Continuation
from flux_core.memory import MemoryStorage
from flux_core.ports import Clock, Entropy, Header, InstanceRef, Logger, Mail, TraceSink, WorkflowStorage
from flux_core.redaction import DEFAULT_REDACTED
from flux_core.registered import register_type
from flux_core.result import BatchResult, FluxResult, InstancePage, InstanceSummary
from flux_core.retry import RetryPolicy
from flux_core.secret import Secret
from flux_core.state import ErrorInfo, StepExecution, WorkflowState
from flux_core.trace import EVENT_TYPES, JsonFileTraceSink
from flux_core.workflow import StepDefinition, WorkflowDefinition

__version__ = "0.1.0"

__all__ = [
    "DEFAULT_REDACTED",
    "EVENT_TYPES",
    "FAIL",
    "NOT_DONE",
    "UNKNOWN",
    "AuditEntry",
    "BatchResult",
    "CallerError",
    "ChildFailed",
    "Clock",
    "Conflict",
    "Context",
    "Continuation",
    "CorruptRecord",
    "Data",
    "DefinitionError",
    "Directive",
    "Done",
    "Entropy",
    "ErrorInfo",
    "FlowBuilder",
    "FluxConsoleLogger",
    "FluxEngine",
    "FluxError",
    "FluxResult",
    "FluxSilentLogger",
    "Header",
    "ImportUnfinished",
    "InputInvalid",
    "InputMutated",
    "InstancePage",
    "InstanceRef",
    "InstanceSummary",
    "InvocationError",
    "JsonFileTraceSink",
    "LeaseLost",
    "Logger",
    "LoopLimit",
    "Mail",
    "MemoryStorage",
    "NonRetryable",
    "NotFound",
    "Refused",
    "RetryPolicy",
    "Secret",
    "SecretExposed",
    "SecretUnavailable",
    "SecretsNotConfigured",
    "StepDefinition",
    "StepExecution",
    "StepFault",
    "StepTimeout",
    "StorageUnavailable",
    "TraceSink",
    "Unknown",
    "UnknownInstance",
    "UnknownSecret",
    "UnknownStep",
    "UnknownWorkflow",
    "Unserialisable",
    "WaitTimeout",
    "WorkflowBuilder",
    "WorkflowDefinition",
    "WorkflowFailed",
    "WorkflowState",
    "WorkflowStorage",
    "WriteConflict",
    "compensation",
    "create_workflow",
    "flow",
    "register_type",
    "sleep",
    "sleep_until",
    "verify",
    "wait",
    "wait_any",
]
