"""Models and measurements that compare this compiler with others."""
