# SPDX-License-Identifier: MIT
"""What the measuring scripts share: a lab with backends, an agent and clients in it."""
