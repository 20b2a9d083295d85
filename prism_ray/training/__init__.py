"""Training and evaluation of one run: torch only, no Ray, no tracker."""
