"""From a change and a catalog to a plan: steps, lint, risk, approvals, and the guide that explains them."""
